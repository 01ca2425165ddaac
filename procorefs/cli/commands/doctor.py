"""`procorefs doctor`: checks machine, account and mounts, and says what mends each problem."""

import os
from pathlib import Path

import click

from procorefs.cli.doctor.findings import Finding, Verdict
from procorefs.cli.mounts.locate import given_path, locate
from procorefs.cli.support.terminal import say, say_json
from procorefs.config import Failure, find_paths
from procorefs.storage.mountinfo import read_mounts

_MARKS = {Verdict.OK: "ok", Verdict.WARNING: "look", Verdict.PROBLEM: "BAD"}


class NotWritten(Failure):
    """The file for a bug report cannot be written."""


@click.command(short_help="Check machine, account and mounts, and say what mends a problem.")
@click.option("--profile", "-p", metavar="NAME", help="Default: the default profile, else the environment.")
@click.option("--offline", is_flag=True, help="Make no API call; otherwise at most three.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as a list.")
@click.option(
    "--bundle",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write a zip file for a bug report, without names, paths and secrets.",
)
@click.argument("mountpoint", required=False)
def doctor(
    profile: str | None, offline: bool, as_json: bool, bundle: Path | None, mountpoint: str | None
) -> int:
    """Check what a mount needs, or also the mount at MOUNTPOINT, and say what mends each problem.

    The exit status is 1 if something does not work.
    """
    findings = _findings(profile, offline=offline, mountpoint=mountpoint)
    if as_json:
        say_json(findings)
    else:
        for finding in findings:
            say(f"{_MARKS[finding.verdict]:<5} {finding.check}: {finding.text}")
            if finding.mend:
                say(f"      {finding.mend}")
    if bundle is not None:
        _write(bundle, findings)
    return int(any(finding.verdict is Verdict.PROBLEM for finding in findings))


def _findings(profile: str | None, *, offline: bool, mountpoint: str | None) -> list[Finding]:
    # The checks import what mounts need: too slow for the help.
    from procorefs.cli.doctor.account import check_account
    from procorefs.cli.doctor.machine import check_machine
    from procorefs.cli.doctor.state import check_state

    paths = find_paths(os.environ)
    place = locate(given_path(mountpoint), read_mounts()) if mountpoint is not None else None
    findings = [*check_machine(paths), *check_state(paths, place)]
    if not offline:
        findings += check_account(paths, profile)
    return findings


def _write(bundle: Path, findings: list[Finding]) -> None:
    from procorefs.cli.doctor.bundle import write_bundle

    try:
        write_bundle(bundle, findings, find_paths(os.environ))
    except OSError as error:
        raise NotWritten(f"{bundle} cannot be written ({error.strerror}); name another file") from error
    say(f"{bundle} can be attached to a bug report; look at it first.", to_stderr=True)
