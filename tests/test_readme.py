import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_example_runs(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    # Fewer images and epochs; all else as a reader would paste it.
    for full, few in (("(300, 0", "(100, 0"), ("(100, 100", "(10, 10"), ("epochs=30", "epochs=1")):
        assert full in example
        example = example.replace(full, few)
    names = {}
    exec(example, names)
    assert set(names["labels"]) <= {1, -1}
    assert names["maps"].shape == (20, 64, 64)
    assert "roc_auc" in capsys.readouterr().out
