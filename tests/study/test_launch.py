"""`make study`: what it hands on, what its jobs leave behind, and what a stopped one is told."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from milib import files
from milib.errors import UserError
from milib.study import arguments, job, jobs, launch, params, paths, plan, times
from milib.study.locks import lock

ROOT = paths.project_root()
QUOTED = """-p data_root "/my {s}'s $HOME" -y 'seed: 010' -r epochs 2 -p grids '{mi_pl: [0.5], \
mi_ol: [0.5]}' -p steps '[10, 50]'"""
STUB = """#!/bin/bash
case "$*" in *milib.study.launch*) printf "%s|" "$MILIB_RUN" "$MILIB_ARGS" "$MILIB_PROFILE";; esac
"""


def make(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`make study`, set up already, as in a terminal: not as a part of `make test`."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", "-o", ".venv/.ready", "study", *words]
    outside |= {"MILIB_OUTPUTS": str(project / "my outputs")}
    return subprocess.run(
        command, cwd=project, env=outside, capture_output=True, text=True, check=False
    )


def project_with(folder: Path, python: str) -> Path:
    """A copy whose python is a script."""
    shutil.copy(ROOT / "Makefile", folder)
    for name in ("params", "notebooks", "profiles"):
        shutil.copytree(ROOT / name, folder / name)
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / ".ready").touch()
    program = folder / ".venv" / "bin" / "python"
    program.write_text(python)
    program.chmod(0o755)
    return folder


def test_make_hands_on_what_was_written(tmp_path):
    """Quotes, dollars and braces as they are."""
    words = ["RUN=c10 c100", f"ARGS={QUOTED}", "PROFILE=slurm"]
    done = make(project_with(tmp_path, STUB), *words)
    assert done.stdout == f"c10 c100|{QUOTED}|slurm|", done.stderr


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["RUN=nope"], "nope.yaml does not exist"),
        (["ARGS=-p epohcs 1"], "unknown key 'epohcs'; nearest valid key: 'epochs'"),
        (["PROFILE=nope"], "PROFILE is 'nope': a folder with a profile of snakemake, or slurm"),
    ],
)
def test_make_shows_the_line_that_says_what_is_wrong(tmp_path, words, line):
    real = f'#!/bin/bash\nexec {shlex.quote(sys.executable)} "$@"\n'
    done = make(project_with(tmp_path, real), *words)
    first, second = done.stderr.splitlines()
    assert first.startswith("UserError: ") and line in first and second.startswith("make: ***")
    assert done.returncode != 0 and not done.stdout


def test_jobs_get_the_values_of_the_fingerprint(tmp_path):
    """Through snakemake and the shell, to a model's command and to papermill."""
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--printshellcmds", "--cores", "1"]
    command += ["--directory", str(tmp_path), "--snakefile", str(ROOT / "Snakefile")]
    out = tmp_path / "my 'outputs' {x}"
    places = {"MILIB_OUTPUTS": str(out), "MILIB_RUN": "digits c10", "MILIB_ARGS": QUOTED}
    done = subprocess.run(
        command, env=os.environ | places, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = (done.stdout + done.stderr).splitlines()
    lines = [line for line in said if "Shell command: " in line and "-y" in line]
    wanted = {"data_root": "/my {s}'s $HOME", "seed": 8, "epochs": "2"}
    wanted |= {"grids": "{mi_pl: [0.5], mi_ol: [0.5]}", "steps": "[10, 50]"}
    kinds = {("milib.study.train", run): 0 for run in ("digits", "c10")}
    kinds |= {("papermill", run): 0 for run in ("digits", "c10")}
    for line in lines:
        words = shlex.split(line.split("Shell command: ")[1])
        folder, name, made, choose, dashes, *command = words[words.index(str(jobs.COMMAND)) + 1 :]
        run, kind = Path(folder).name, command[2]
        kinds[kind, run] += 1
        assert Path(folder).parent == out and (choose, dashes) == ("1", "--")
        if kind == "papermill":
            assert made == f"{folder}/notebooks/{name}.ipynb" and "{made}" in command
            assert f"params/{run}.yaml" in command
        else:
            assert made == "" and command[3] == run and "--limited" in command
        at = command.index("-y")
        assert arguments.read(command[at : at + 2], "ARGS")[1] == wanted
    assert kinds == {
        ("milib.study.train", "digits"): 7,
        ("papermill", "digits"): 8,
        ("milib.study.train", "c10"): 4,
        ("papermill", "c10"): 8,
    }


# Set-up

RECORDS = """#!/bin/bash
echo "$@" >> calls
[ "$1 $2" != "pip sync" ] || { [ ! -e refuses ] || exit 2; cat "${@: -1}" > installed; }
"""


@pytest.fixture
def clone(tmp_path, monkeypatch) -> Path:
    """What `make setup` needs, with a uv that notes its calls and what it is to install."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    for name in (".venv/bin/python", "bin/uv"):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text(RECORDS)
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.delenv("CPU", raising=False)
    return tmp_path


def set_up(clone: Path, *words: str) -> subprocess.CompletedProcess[str]:
    outside = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", "setup", *words],
        cwd=clone,
        env=outside,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_set_up_without_cuda_stays_until_it_is_asked_for(clone):
    """It says first how much it installs. What is there goes on: uv takes one torch for another."""
    done = set_up(clone, "CPU=1")
    assert done.returncode == 0 and done.stdout.startswith("make setup: 2.1 GB"), done.stderr
    installed = (clone / "installed").read_text()
    assert "torch==" in installed and "torchvision==" in installed and "numpy==" in installed
    assert not re.search("nvidia|cuda|triton", installed)
    assert "--torch-backend cpu" in (clone / "calls").read_text()
    assert "--reinstall" not in (clone / "calls").read_text()
    (clone / "calls").unlink()
    assert set_up(clone).returncode == 0  # as `make study` has it
    assert not (clone / "calls").exists()
    done = set_up(clone, "CPU=")
    assert done.stdout.startswith("make setup: 6.6 GB"), done.stderr
    assert (clone / "installed").read_text() == (ROOT / "constraints.txt").read_text()
    calls = (clone / "calls").read_text()
    assert "--torch-backend" not in calls and "--reinstall-package torch " in calls
    (clone / "calls").unlink()
    assert set_up(clone).returncode == 0 and not (clone / "calls").exists()


def test_a_set_up_that_failed_is_none(clone):
    (clone / "refuses").touch()
    assert set_up(clone, "CPU=1").returncode != 0
    assert not list(clone.glob(".venv/.ready*"))


# A job

COMMAND = [sys.executable, str(jobs.COMMAND)]
WRITES = "import sys; print('so far', flush=True); open(sys.argv[1], 'w').write('whole')"
FAILS = WRITES + "; sys.exit('UserError: no room')"


def ended(folder: Path, code: str) -> tuple[int, str]:
    """The status of a job that makes a notebook, and its log's last line."""
    made = str(folder / "notebooks" / "a.ipynb")
    words = [*COMMAND, str(folder), "a", made, "0", "--", sys.executable, "-c", code, "{made}"]
    status = subprocess.run(words, check=False).returncode
    return status, job.last_line(folder / "logs" / "a.log")


def test_a_job_leaves_a_whole_file_and_its_seconds(tmp_path):
    status, line = ended(tmp_path, WRITES)
    assert status == 0 and line.startswith("done in ")
    assert [path.name for path in (tmp_path / "notebooks").iterdir()] == ["a.ipynb"]
    assert float((tmp_path / "profile" / "a.seconds").read_text()) > 0
    assert "so far" in (tmp_path / "logs" / "a.log").read_text()


def test_a_job_that_failed_says_why_and_leaves_what_it_had(tmp_path):
    status, line = ended(tmp_path, FAILS)
    assert (status, line) == (1, "failed: UserError: no room")
    assert [path.name for path in (tmp_path / "notebooks").iterdir()] == ["a.failed.ipynb"]
    assert not list((tmp_path / "profile").iterdir())
    status, line = ended(tmp_path, WRITES)
    assert status == 0
    assert [path.name for path in (tmp_path / "notebooks").iterdir()] == ["a.ipynb"]


def test_a_killed_job_leaves_nothing_that_may_be_torn(tmp_path):
    status, line = ended(tmp_path, WRITES + "; import os; os.kill(os.getpid(), 9)")
    assert (status, line) == (1, "failed: ended by signal 9")
    assert not list((tmp_path / "notebooks").iterdir())


ORPHAN = """
import subprocess, sys
job = subprocess.Popen(sys.argv[1:])
print(job.pid, flush=True)
job.wait()
"""
SLEEPS = "import os, sys, time; print(os.getpid(), flush=True); time.sleep(60)"


def alive(process: int) -> bool:
    """Whether a process runs; one that nobody has waited for does not."""
    stat = Path(f"/proc/{process}/stat")
    try:
        return stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_job_ends_with_the_run_that_started_it(tmp_path):
    words = [*COMMAND, str(tmp_path), "a", "", "0", "--", sys.executable, "-c", SLEEPS]
    with subprocess.Popen(
        [sys.executable, "-c", ORPHAN, *words], stdout=subprocess.PIPE, text=True
    ) as run:
        own = int(run.stdout.readline())
        log = tmp_path / "logs" / "a.log"
        deadline = time.monotonic() + 60
        while not (log.exists() and log.read_text().strip()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        child = int(log.read_text())
        assert alive(own) and alive(child)
        run.send_signal(signal.SIGKILL)
    while alive(own) or alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def programs(folder: Path, monkeypatch, **scripts: str) -> None:
    """Programs that come first in the path."""
    for name, script in scripts.items():
        path = folder / "bin" / name.replace("_", "-")
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")


def test_jobs_of_a_machine_take_free_gpus(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(job.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(job, "WATCH", 0.01)
    programs(tmp_path, monkeypatch, nvidia_smi="printf 'GPU-a\\nGPU-b\\n'")
    assert job.gpus() == ["GPU-a", "GPU-b"]
    parent = os.getppid()
    with ExitStack() as first, ExitStack() as second, ExitStack() as third:
        assert job.free_gpu(first, parent) == "GPU-a"
        assert job.free_gpu(second, parent) == "GPU-b"
        freed = threading.Event()
        first.callback(freed.set)  # at its end, before the GPU is free
        threading.Timer(0.1, first.close).start()
        assert job.free_gpu(third, parent) == "GPU-a" and freed.is_set(), "the third waits"
        with ExitStack() as orphan:
            assert job.free_gpu(orphan, parent + 1) is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert job.gpus() == ["3"]
    with ExitStack() as kept:
        assert job.free_gpu(kept, parent) is None  # no choice: the variable stays as it is


def test_a_job_sees_its_gpu_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", f"{os.getpid()}x,{os.getpid()}y")
    code = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    words = [*COMMAND, str(tmp_path), "a", "", "1", "--", sys.executable, "-c", code]
    assert subprocess.run(words, check=False).returncode == 0
    assert (tmp_path / "logs" / "a.log").read_text().startswith(f"{os.getpid()}x\ndone in ")


# What a job asks for


def test_gpus_share_the_cores_of_a_machine(monkeypatch):
    digits, c10 = (params.load(ROOT / "params" / f"{name}.yaml") for name in ("digits", "c10"))
    on_cpu = params.load(ROOT / "params" / "c10.yaml", {"device": "cpu"})
    two = params.load(ROOT / "params" / "c10.yaml", {"threads": 2})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    found = [jobs.threads(run, 18) for run in (digits, c10, on_cpu, two)]
    assert found == [4, 4, 18, 4]  # digits and the last ask for fewer cores, but there are 4 GPUs
    assert [jobs.threads(run, None) for run in (c10, two)] == [jobs.CORES, 2]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert [jobs.threads(run, 18) for run in (digits, c10)] == [1, 18]
    device = params.load(ROOT / "params" / "c10.yaml", {"device": "cuda:1"})
    assert [jobs.resources(run)["choose"] for run in (c10, on_cpu, device)] == [1, 0, 0]


@pytest.mark.parametrize(
    ("says", "minutes"),
    [
        ("debug* 1:00:00", 60),
        ("a 10:00\\nb* 2-03:30:00", 3090),
        ("a* 30:00", 30),
        ("a* infinite", None),
        ("a 10:00", None),
    ],
)
def test_no_job_asks_for_more_minutes_than_there_are(tmp_path, monkeypatch, says, minutes):
    programs(tmp_path, monkeypatch, sinfo=f"printf '{says}\\n'")
    monkeypatch.setenv("MILIB_PROFILE", "slurm")
    jobs.longest.cache_clear()
    try:
        assert jobs.longest() == minutes
        run = params.load(ROOT / "params" / "c10.yaml")
        found = jobs.resources(run)
        wanted = jobs.ASKED["resnet50"]["runtime"]
        assert found["runtime"] == min(minutes or wanted, wanted) and found["gpu"] == 1
        digits = params.load(ROOT / "params" / "digits.yaml")
        assert jobs.resources(digits)["gpu"] == 0
    finally:
        jobs.longest.cache_clear()


# The command

MAKES = """
import os, sys
from pathlib import Path
print("Job stats:\\njob  count\\nall  1\\nmodel  1\\nnotebook  2\\ntotal  4\\n", flush=True)
logs = Path("digits/logs")
(logs / "a.log").write_text("a line\\ndone in 3 s\\n")
(logs / "b").write_text(sys.argv[1])
os.utime(logs / "b", (5, 5))  # of a host whose clock is behind
os.rename(logs / "b", logs / "b.log")
sys.exit(int(sys.argv[2]))
"""


@pytest.fixture
def outputs(tmp_path, monkeypatch) -> Path:
    """The working folder, and the outputs folder of `launch.main`."""
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "OUTPUTS": str(tmp_path),
        "RUN": "digits",
        "ARGS": "",
        "PROFILE": "",
    }.items():
        monkeypatch.setenv(f"MILIB_{name}", value)
    (tmp_path / "digits" / "logs").mkdir(parents=True)
    return tmp_path


def with_snakemake(monkeypatch, *words: str) -> None:
    """In the place of snakemake, MAKES; in the place of the report, nothing."""
    monkeypatch.setattr(launch, "command", lambda _: [sys.executable, "-c", MAKES, *words])
    monkeypatch.setattr(launch, "REPORT", [sys.executable, "-c", "print('report')"])


def test_each_job_has_a_line_and_each_run_a_report(outputs, monkeypatch, capfd):
    folder = outputs / "digits"
    (folder / "logs" / "old.log").write_text("done in 9 s\n")
    os.utime(folder / "logs" / "old.log", (1, 1))
    (folder / "profile").mkdir()
    (folder / "profile" / "old.seconds").write_text("9\n")
    os.utime(folder / "profile" / "old.seconds", (1, 1))
    with_snakemake(monkeypatch, "done in 4 s", "0")
    monkeypatch.setattr("milib.study.plan.cores", lambda: 2)  # on many it takes seconds
    assert launch.main() == 0
    plan, stop, *told = capfd.readouterr().out.splitlines()
    line = r"digits: 7 models to train, 8 notebooks to run, about \d+ min; logs in digits/logs"
    assert re.fullmatch(line, plan) and stop.startswith("Ctrl-C stops")
    ended, total = told[:2], told[2:]
    assert ended == ["digits a: done in 3 s; 2 jobs left", "digits b: done in 4 s; 1 job left"]
    assert re.fullmatch(r"digits: 0 jobs in \d+ s", total[0]) and total[1:] == [
        "what took how long: digits/logs/report.txt",
        "report: digits/index.html",
    ]
    assert (folder / "logs" / "report.txt").read_text() == "report\n"
    assert not list((folder / "profile").iterdir())


def test_what_is_there_and_what_was_measured_decide_the_plan(outputs, monkeypatch):
    """Notebooks that are there are left to snakemake; changed parameters have no times."""
    (outputs / "digits" / "notebooks").mkdir()
    for name in jobs.notebooks():
        (outputs / "digits" / "notebooks" / f"{name}.ipynb").touch()
    (outputs / "digits" / "notebooks" / "03_theory.ipynb").unlink()
    for name in jobs.checkpoints("02_train_interpolated_at", arguments.studies()[0].run):
        path = outputs / name
        path.parent.mkdir(exist_ok=True)
        if not path.name.startswith("mixup"):
            path.touch()
    (outputs / "digits" / "profile").mkdir()
    (outputs / "digits" / "profile" / "03_theory.seconds").write_text("7000\n")
    monkeypatch.setattr(plan, "cores", lambda: 2)
    monkeypatch.setattr(jobs.job, "gpus", list)
    found = plan.Plan(arguments.studies())
    there = "(7 are there: again where a change touches them)"
    line = f"digits: 1 model to train, 1 notebook to run {there}, about 59 min; logs in digits/logs"
    assert str(found).splitlines()[0] == line
    assert found.left("digits", "train_mixup", 2) == "; 1 job left, about 59 min"
    assert found.left("digits", "03_theory", 2) == "; the last one"
    monkeypatch.setenv("MILIB_ARGS", "-p n_test 40")
    assert "about" not in str(plan.Plan(arguments.studies()))
    monkeypatch.setenv("MILIB_ARGS", "")
    monkeypatch.setenv("MILIB_PROFILE", "slurm")
    assert "about" not in str(plan.Plan(arguments.studies()))


def test_every_measured_job_is_one_that_a_run_has(monkeypatch):
    kept = {name: entry["seconds"] for name, entry in times.kept().items()}
    assert set(kept) == {"digits", "c10_quick"}
    for name, measured in (kept | times.ROUGHLY).items():
        run = params.load(ROOT / "params" / f"{name}.yaml")
        known = set(jobs.notebooks())
        for book in jobs.notebooks():
            for path in jobs.checkpoints(book, run):
                known.add("train_" + Path(path).name.split("-")[0])
        assert set(measured) == known


def test_what_succeeded_is_not_called_failed(outputs, monkeypatch, capfd):
    """On another host's disk a log's last line may come after snakemake has ended."""
    with_snakemake(monkeypatch, "a line", "0")
    assert launch.main() == 0
    said = capfd.readouterr().out
    assert "digits b: done; 1 job left" in said and "failed" not in said


def test_a_failed_job_is_named_with_its_log(outputs, monkeypatch, capfd):
    (outputs / "digits" / "profile").mkdir()
    (outputs / "digits" / "profile" / "old.seconds").write_text("9\n")
    os.utime(outputs / "digits" / "profile" / "old.seconds", (1, 1))
    with_snakemake(monkeypatch, "UserError: x\nfailed: UserError: x", "1")
    assert launch.main() == 1
    said = capfd.readouterr().out.splitlines()[2:]
    line = "digits b: failed: UserError: x; 1 job left (log: digits/logs/b.log)"
    assert said[1] == line and len(said) == 2
    assert len(list((outputs / "digits" / "profile").iterdir())) == 1


def test_a_job_that_a_cluster_killed_is_named(outputs, monkeypatch, capfd):
    with_snakemake(monkeypatch, "a line", "1")
    assert launch.main() == 1
    line = "digits b: failed: killed, or out of time or memory; 1 job left (log: digits/logs/b.log)"
    assert capfd.readouterr().out.splitlines()[3] == line


def test_a_path_that_a_cluster_cannot_read_is_named(outputs, monkeypatch):
    monkeypatch.setenv("MILIB_PROFILE", "slurm")
    monkeypatch.setenv("MILIB_OUTPUTS", str(outputs / "Ann's"))
    with pytest.raises(UserError, match="Ann's has a ', which"):
        launch.main()
    monkeypatch.setenv("MILIB_OUTPUTS", str(outputs / "my outputs"))
    assert launch.profile() == ["--profile", str(ROOT / "profiles" / "slurm")]
    monkeypatch.setenv("MILIB_PROFILE", str(outputs))
    assert launch.profile() == ["--profile", str(outputs)]


STAYS = """
import signal, sys, time
from pathlib import Path
def stopped(*_):
    Path("stopped").touch()
    sys.exit(1)
signal.signal(signal.SIGINT, stopped)
Path("began").touch()
time.sleep(60)
"""


def test_who_stops_the_command_stops_snakemake(outputs):
    code = (
        "from milib.study import launch; import sys; launch.command = lambda _: [sys.executable, "
    )
    code += f"'-c', {STAYS!r}]; launch.main()"
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as own:
        deadline = time.monotonic() + 60
        while not Path("began").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        holder = (outputs / ".digits.lock").read_text()
        own.send_signal(signal.SIGTERM)
    assert own.returncode != 0 and Path("stopped").exists()
    assert holder.startswith("process ") and not holder.startswith(f"process {own.pid} ")


def test_a_full_disk_is_named(outputs, monkeypatch):
    monkeypatch.setattr(launch, "ROOM", 2**80)
    monkeypatch.setattr(launch, "command", lambda _: [sys.executable, "-c", "exit(1)"])
    with pytest.raises(UserError, match="has no room left"):
        launch.main()


def test_snakemakes_own_failure_is_a_line(outputs, monkeypatch):
    code = "print('begin'); print('WorkflowError:'); print('  no such queue'); exit(1)"
    monkeypatch.setattr(launch, "command", lambda _: [sys.executable, "-c", code])
    with pytest.raises(UserError, match=r"ended with 1: WorkflowError: no such queue \(log: "):
        launch.main()


def test_a_run_that_is_being_made_is_refused_and_left_alone(outputs, monkeypatch):
    with_snakemake(monkeypatch, "done in 4 s", "0")
    left = outputs / "digits" / ".a.0123456789abcdef.1.0123456789abcdef.tmp"
    left.write_text("")
    os.utime(left, (1, 1))
    words = rf"digits is being made by process {os.getpid()} on \S+ since 20.*: wait for it"
    with lock(outputs / "digits"), pytest.raises(UserError, match=words):
        launch.main()
    assert left.exists() and not list((outputs / "digits" / "logs").iterdir())
    assert launch.main() == 0  # the lock is free again
    assert not left.exists()


def test_a_notebook_whose_record_is_gone_is_forgotten(outputs, monkeypatch):
    folder = outputs / "digits"
    events = [{"kind": "record", "name": "gone.json", "seconds": 1.0, "cached": False}]
    files.write_atomic(folder / "profile" / "03_theory.json", json.dumps(events).encode())
    files.write_atomic(folder / "notebooks" / "03_theory.ipynb", b"{}")
    files.write_atomic(folder / "notebooks" / "04_oblivious.ipynb", b"{}")
    with_snakemake(monkeypatch, "done in 4 s", "0")
    assert launch.main() == 0
    assert [path.stem for path in (folder / "notebooks").iterdir()] == ["04_oblivious"]


def test_the_notebook_that_takes_longest_comes_first_where_a_project_has_it(monkeypatch):
    folder = Path("digits")
    assert launch.command([folder])[-2:] == [
        "--prioritize",
        f"digits/notebooks/{launch.FIRST}.ipynb",
    ]
    monkeypatch.setattr(jobs, "notebooks", lambda: ["01_train_mixup"])
    assert "--prioritize" not in launch.command([folder])
