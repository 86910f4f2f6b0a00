"""What errors were measured on in place of the workload itself."""

from .record import Study


def proxy(study: Study) -> str:
    """Such as "another model", empty where errors are the workload's own; a text of null says that none was read."""
    on = study.accuracy_model
    if "text" in on and on["text"] is None:
        return "a synthetic layer"
    if not on.get("proxy"):
        return ""
    return "another context" if on.get("id") == study.workload.get("model") else "another model"
