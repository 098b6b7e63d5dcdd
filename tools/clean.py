"""`./dev clean`: back to a fresh clone."""

import shutil
from contextlib import suppress

from tools import running
from tools.checkout import GENERATED, LOGS, ROOT, TARGET
from tools.services import disk, namespaces


def run_clean(*, everything: bool) -> str:
    """Ends what was left running, then removes what ./dev has made; the tools' own environment goes last."""
    running.end_leftovers()
    with suppress(namespaces.NotAllowed):
        namespaces.remove()
    disk.take_away(*LOGS.glob("chaos/*.disk/*"))
    shutil.rmtree(ROOT / "python" / "chariot_ds.data", ignore_errors=True)
    removed = [GENERATED, *([TARGET] if everything else [])]
    for folder in removed:
        shutil.rmtree(folder, ignore_errors=True)
    return "removed " + ", ".join(folder.name for folder in removed)
