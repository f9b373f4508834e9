"""Workers of this machine: each sees its own GPU, before anything could have looked."""

from toy import toy_suite

from opcd_bench.progress import QuietReporter
from opcd_bench.runner.cluster import executor as executor_module
from opcd_bench.runner.cluster.executor import drive
from opcd_bench.runner.cluster.jobs import Job, Lost, Outcome, Taken
from opcd_bench.runner.cluster.local import LocalPool, gpus_of
from opcd_bench.runner.cluster.work import Work


def test_workers_divide_the_gpus_that_are_visible(tiny_model_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    suite = toy_suite(tiny_model_folder, tmp_path, device="cuda")
    jobs = [Job("cell", str(number)) for number in range(12)]
    seen = {}
    with LocalPool(suite, 3, Work("pool_work")) as pool:
        for outcomes in drive(pool, jobs, retries=0, console=QuietReporter()):
            seen |= dict(outcome.notes for outcome in outcomes)
    assert set(seen.values()) <= {"5", "7"} and len(seen) <= 3
    assert len(seen) < 3 or sorted(seen.values()) == ["5", "5", "7"]


def test_no_gpu_is_chosen_where_the_device_is_said_or_there_is_none():
    visible = {"CUDA_VISIBLE_DEVICES": "0,1"}
    assert gpus_of("cuda", visible) == ("0", "1")
    assert gpus_of("cpu", visible) == gpus_of("cuda:1", visible) == ()
    assert gpus_of("cuda", {"CUDA_VISIBLE_DEVICES": ""}) == ()


class Losing:
    """An executor whose first worker of every job is lost."""

    room = 2

    def __init__(self, times):
        self.times, self.given, self.left = times, [], False

    def submit(self, jobs):
        assert len(jobs) <= self.room
        self.given += jobs
        self.now = list(jobs)

    def ended(self, seconds):
        return [(job, self.end(job)) for job in self.now]

    def end(self, job):
        lost = self.given.count(job) <= self.times
        return Lost("gone") if lost else Outcome(job.name, None)

    def leave(self):
        self.left = True


class Shared(Losing):
    """An executor whose jobs another driver's have taken, so many times."""

    def end(self, job):
        taken = self.given.count(job) <= self.times
        return Taken("runs/a: process 7 is writing it") if taken else Outcome(job.name, None)


def test_a_job_that_another_process_is_at_waits_for_it_however_long(monkeypatch):
    monkeypatch.setattr(executor_module, "PAUSE", 0.01)
    monkeypatch.setattr(executor_module, "LONGEST", 0.05)
    executor, console = Shared(9), QuietReporter()
    jobs = [Job("cell", name, {"not": "hashable"}) for name in "abc"]
    found = [o for os in drive(executor, jobs, retries=0, console=console) for o in os]
    assert sorted(found, key=lambda one: one.cell) == [Outcome(name, None) for name in "abc"]
    assert [executor.given.count(job) for job in jobs] == [10] * 3
    assert console.warnings == [
        f"{name}: runs/a: process 7 is writing it. It has its turn again after that"
        for name in "abc"
    ]


def test_a_lost_job_is_given_out_again_and_not_for_ever():
    jobs = [Job("cell", name) for name in "abc"]
    for times, problems in (
        (1, [None] * 3),
        (9, ["its worker was lost 3 times, at last: gone"] * 3),
    ):
        executor, console = Losing(times), QuietReporter()
        found = [o for os in drive(executor, jobs, retries=2, console=console) for o in os]
        assert [one.problem for one in found] == problems
        assert not executor.left and console.warnings
    executor = Losing(0)
    loop = drive(executor, jobs, retries=0, console=QuietReporter())
    next(loop)
    loop.close()
    assert executor.left, "left early, the executor is told"
