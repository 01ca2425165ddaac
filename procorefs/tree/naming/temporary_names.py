"""Names under which copy tools and programs write a file before they rename it to its own.

Pure functions over single names. Such a file stays here until it is renamed, or for an hour untouched. So a document
that is taken for one reaches Procore an hour late, while one that is missed costs an upload and leaves a stray
document: where names are random, the patterns rather catch too much. What people keep for good, as `plan.bak`,
`plan.dwg~` or a folder called 20240131, is not temporary, or no `sync` of a tree with such files would end well.
"""

import re

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
    """Whether a file of that name will most likely be renamed or removed by whoever made it."""
    return _FILE.fullmatch(name) is not None


def is_temporary_folder(name: bytes) -> bool:
    """Whether everything in a folder of that name is temporary, whatever it is called."""
    return _FOLDER.fullmatch(name) is not None
