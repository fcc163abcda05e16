"""What a trial runs on: where the limits of memory of control groups are looked for."""

from pathlib import Path

import psutil
import pytest

from engram.lab.trial.machine import limit_files, memory

JOB = "3:cpu,cpuacct:/other\n2:memory:/slurm/job_7\n1:name=systemd:/init\n"
OLD = "/sys/fs/cgroup/memory"


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ("", []),
        ("0::/\n", ["/sys/fs/cgroup/memory.max"]),
        ("0::/a/b\n", [f"/sys/fs/cgroup{group}/memory.max" for group in ("/a/b", "/a", "")]),
        (JOB, [f"{OLD}{group}/memory.limit_in_bytes" for group in ("/slurm/job_7", "/slurm", "")]),
        ("0::/a:b\n", ["/sys/fs/cgroup/a:b/memory.max", "/sys/fs/cgroup/memory.max"]),
    ],
)
def test_the_limits_of_a_process_are_those_of_its_groups_and_of_the_ones_around_them(groups, expected):
    assert [str(path) for path in limit_files(groups)] == expected


def test_a_smaller_limit_of_a_batch_job_is_the_memory_there_is(tmp_path, monkeypatch):
    limit, none, much = (tmp_path / name for name in ("limit", "none", "much"))
    limit.write_text("4096\n")
    none.write_text("max\n")
    much.write_text(f"{2**63 - 4096}\n")
    total = psutil.virtual_memory().total
    for files, expected in [([none, limit], 4096), ([none, much], total), ([tmp_path / "absent"], total), ([], total)]:
        monkeypatch.setattr("engram.lab.trial.machine.limit_files", lambda groups, files=files: files)
        assert memory() == (expected if Path("/proc/self/cgroup").exists() else total)
