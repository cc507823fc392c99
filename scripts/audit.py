"""Known vulnerabilities of the locked packages, by pip-audit: python -m scripts.audit requirements/cpu.txt

Exit code 1 where a package has one that a newer release mends, for then there is something to do (make lock); without
a release that mends it, it is only told. Where the list of vulnerabilities cannot be reached, it says so and passes.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

PATIENCE_S = 300


def audit(lock: Path) -> int:
    """Look the packages of a lock up and tell what is known of them; gives the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "found.json"
        command = [sys.executable, "-m", "pip_audit", "--requirement", str(lock), "--no-deps", "--disable-pip",
                   "--progress-spinner", "off", "--format", "json", "--output", str(found)]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
            reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        except subprocess.TimeoutExpired:
            reason = f"no answer within {PATIENCE_S} s"
        if not found.exists() or not found.read_text():
            print(f"audit: left out, the list of known vulnerabilities cannot be had: {reason[:200]}")
            return 0
        lines, is_mended = told(json.loads(found.read_text()))
    print("\n".join(lines))
    return int(is_mended)


def told(report: dict[str, Any]) -> tuple[list[str], bool]:
    """What to say of pip-audit's report, and whether a newer release mends any of it."""
    lines, is_mended = [], False
    packages = report["dependencies"]
    for package in packages:
        for one in package.get("vulns", []):
            mended = ", ".join(one["fix_versions"]) or "no release yet"
            is_mended = is_mended or bool(one["fix_versions"])
            lines.append(f"audit: {package['name']} {package['version']}: {one['id']}, mended in {mended}")
    known = sum("vulns" in package for package in packages)
    return [*lines, f"audit: {known} of {len(packages)} packages looked up, {len(lines)} vulnerabilities"], is_mended


if __name__ == "__main__":
    sys.exit(audit(Path(sys.argv[1])))
