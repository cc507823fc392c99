"""An exam from its start to its verdict, for `brogue exam` and for the loop: the gateway that runs, report, gate."""

from adapters import exam_files
from adapters.exam_asking import Gateway
from adapters.exam_types import Exam
from adapters.gate import judge as judge_exam
from adapters.gate_rules import load_gate
from adapters.registry import Registry
from assistant.services import running_gateway
from data.errors import BrogueError
from data.home import Home
from data.settings import load_settings
from serve.hardware import CPU_MAX_NUM_SEQS, detect_device

GATE = "default"
ON_A_GPU = 64  # questions at once; vLLM takes more than a CPU's engine


def running(home: Home) -> Gateway:
    """The gateway of this home. Raises `BrogueError` while nothing runs."""
    found = running_gateway(home)
    if found is None:
        raise BrogueError("an exam asks the engine, which is not running; start it: brogue up")
    engine = load_settings(home.settings_file).engine
    gpu = engine.device == "gpu" or (engine.device == "auto" and detect_device() == "gpu")
    return Gateway(*found, at_once=engine.max_num_seqs or (ON_A_GPU if gpu else CPU_MAX_NUM_SEQS))


def judged(home: Home, exam: Exam, gate: str) -> Exam:
    """The exam with what a gate says of it: kept with the exam and beside the version. Writes the report, too."""
    from assistant.exam_report import write

    verdict = judge_exam(exam, load_gate(home, gate))
    exam = exam.model_copy(update={"verdict": verdict})
    exam_files.save(home, exam)
    write(exam, exam_files.report_path(home, exam.id))
    adapter, _, number = exam.names["version"].partition("@")
    Registry(home).keep_verdict(adapter, int(number), verdict)
    return exam
