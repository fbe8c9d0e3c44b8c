"""The examples of the documentation run as they stand, one after the other."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "integrations.md"


def test_every_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    examples = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.S | re.M)
    trainers = [re.search(r"trainer = (\w+)\(", example)[1] for example in examples]
    assert trainers == ["Trainer", "SFTTrainer", "DPOTrainer"]
    names = {}
    for example in examples:
        exec(compile(example, str(PAGE), "exec"), names)
        logs = names["trainer"].state.log_history
        assert 0 < logs[0]["selection/touched_fraction"] < 1
    assert (tmp_path / "tuned" / "model.safetensors").is_file()
