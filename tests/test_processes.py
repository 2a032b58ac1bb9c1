from __future__ import annotations

import pytest

from letterwise import processes
from letterwise.errors import LetterwiseError


def test_one_process_alone_does_everything_itself() -> None:
    assert processes.is_main()
    assert processes.count() == 1
    processes.wait_for_everyone()
    assert processes.decided_by_main(lambda: [1, 2]) == [1, 2]
    assert processes.one_after_another(lambda: "done") == processes.in_turn(lambda: "done") == "done"
    assert (processes.in_any(True), processes.in_any(False)) == (True, False)
    assert processes.share(["a", "b", "c"]) == processes.gathered(["a", "b", "c"]) == ["a", "b", "c"]


@pytest.mark.parametrize("variable", ["ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"])
def test_a_launcher_that_is_to_shard_the_model_is_refused(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    processes.refuse_sharding_by_launcher()
    monkeypatch.setenv(variable, "true")
    with pytest.raises(LetterwiseError, match=r"not supported; launch without it .* set training.sharding to full"):
        processes.refuse_sharding_by_launcher()
