"""Decides by the name whether an entry is sent to Procore, held for a while as temporary, or never sent.

A temporary name is one under which a copy tool or program writes a file before it renames it. Such a file stays here
until it is renamed, or for an hour untouched. So a document that is taken for one reaches Procore an hour late, while
one that is missed costs an upload and leaves an unwanted document: where names are random, the patterns catch too much
rather than too little. What people keep, such as `plan.bak`, `plan.dwg~` or a folder called 20240131, is not temporary,
or no `sync` of a tree with such files would end well.
"""

import enum
import re

from procorefs.tree.naming.junk_names import is_junk_folder
from procorefs.tree.naming.name_rules import encode

_FILES = rb"""
    # Copying
    \. .+ \. [A-Za-z0-9]{6}             # rsync, Chromium: .plan.dwg.x4Kp2Q; .notes.backup looks the same
  | .+ \. partial                       # rclone: plan.dwg.1f3a9c2e.partial
  | .+ \. (?: part | filepart | crdownload | opdownload | aria2 | ffs_tmp )
                                        # Firefox, KDE; WinSCP; Chromium; Opera; aria2; FreeFileSync
  | \. .+ \. ~ [0-9a-f]+                # Nextcloud: .plan.dwg.~2f1c
  | \. in \. .+                         # lftp, ProFTPD: .in.plan.dwg
  | \.mutagen-temporary-.+

    # Saving: *.tmp alone covers Word (~WRD0001.tmp, ~WRL0001.tmp, ~DF9A.tmp), Excel and PowerPoint on a share
    # (1A2B3C4D.tmp, ppt1A2B.tmp), Windows' ReplaceFile (plan.dwg~RF1a2b3c.TMP), LibreOffice (lu12ab3c.tmp), AutoCAD
    # (sav1A2B.tmp), Acrobat (A9R1a2b.tmp), Syncthing and Unison
  | (?i: .+ \. tmp )
  | (?! (?:19|20)[0-9]{2} (?:0[1-9]|1[0-2]) (?:0[1-9]|[12][0-9]|3[01]) ) (?i: [0-9a-f]{8} )
                                        # Excel: 4CCA4100; a date such as 20240131 is somebody's own name
  | .+ \. sb-[0-9a-f]{8}-[A-Za-z0-9]{6} # macOS: plan.docx.sb-1a2b3c4d-x4Kp2Q
  | \.goutputstream-.+                  # glib, so GNOME's programs
  | \.xdp-.+                            # the same through the portal of Flatpak and Snap
  | .+ \. [A-Za-z0-9]{1,5} \. (?= [A-Za-z0-9] [a-z0-9]* [A-Z] ) [A-Za-z0-9]{6}
                                        # Qt, glib: plan.dwg.xKpQzA, plan.dwg.ZL4TBW; plan.pdf.backup is not random
  | (?: sed | zi | .+ \. o ) (?= [a-z]* [A-Z0-9] ) [A-Za-z0-9]{6}
                                        # sed -i, zip, patch: sedAb12Cd, ziRXG5pP, plan.txt.oaWwlrX; six small letters,
                                        # as in sediments, are a word
  | XX [A-Za-z0-9]{6}                   # perl -i
  | d2utmp .{6}                         # dos2unix
  | .+ (?: _exiftool_tmp | \. ~qpdf-temp\# )
  | tmp [a-z0-9_]{8} (?: \. .+ )?       # Python's tempfile: tmpk3j2_h1x.pdf
  | 4913                                # vim tries with it whether it may write in the folder
  | \. .+ \. (?: sw[q-z] | swpx | kate-swp )
                                        # vim tries with them what the folder can; kate's swap files
  | \# .+ \#                            # emacs saves on its own
  | .+ ___jb_(?: tmp | old )___         # JetBrains
  | (?i: .+ \. (?: dwl2? | sv\$ | ac\$ ) )
                                        # AutoCAD: who has the drawing open; saved on its own

    # Databases and git, which need these names while they work
  | .+ \. (?: db3? | sqlite3? | s3db | sl3 | gpkg | mbtiles ) - (?: journal | wal | shm )
  | tmp_[a-z]+_[A-Za-z0-9]{6}           # git: tmp_obj_x4Kp2Q, tmp_pack_x4Kp2Q
  | \.tmp-[0-9]+-pack-.+
  | (?: index | config | packed-refs | shallow | [A-Z_]*HEAD | commit-graph | multi-pack-index ) \.lock
                                        # poetry.lock and its like are documents
"""
"""Each a whole name; the programs beside it use it."""

_FOLDERS = rb"""
    \. ~tmp~                            # rsync --delay-updates
  | \. rsync-(?: partial | tmp )        # rsync --partial-dir, and a usual name for its --temp-dir
  | .+ \. sb-[0-9a-f]{8}-[A-Za-z0-9]{6} # macOS
  | tmp_objdir-.+                       # git
"""

_FILE = re.compile(_FILES, re.VERBOSE | re.DOTALL)
_FOLDER = re.compile(_FOLDERS, re.VERBOSE | re.DOTALL)


def is_temporary(name: bytes) -> bool:
    """Whether the program that made a file of that name will most likely rename or remove it."""
    return _FILE.fullmatch(name) is not None


def is_temporary_folder(name: bytes) -> bool:
    """Whether everything in a folder of that name is temporary, whatever it is called."""
    return _FOLDER.fullmatch(name) is not None


class Fate(enum.IntEnum):
    """What happens to an entry because of its name; in a folder the larger of both values applies."""

    SENT = 0
    """It goes to Procore."""
    HELD = 1
    """Temporary: it stays here until it is renamed, or not touched for an hour."""
    LOCAL = 2
    """Junk: it never goes to Procore."""


def own_fate(name: str, *, is_folder: bool, is_junk: bool, keeps_junk: bool = False) -> Fate:
    """By its own name, in any folder. `is_junk`: for a file, what name and content say (junk_names.is_junk)."""
    if not keeps_junk and (is_junk_folder(name) if is_folder else is_junk):
        return Fate.LOCAL
    temporary = is_temporary_folder if is_folder else is_temporary
    return Fate.HELD if temporary(encode(name)) else Fate.SENT
