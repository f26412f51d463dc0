"""How far long work is."""

from agents.progress import progress


def test_where_there_is_no_terminal_each_tenth_is_a_line(capsys):
    with progress("playing", 40, 5) as advance:
        for step in range(35):
            advance("nearly done" if step == 30 else "")
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "playing: 8 of 40"
    assert said[-2:] == ["nearly done: 36 of 40", "nearly done: 40 of 40"]
    assert len(said) == 9


def test_work_of_few_steps_has_a_line_for_each(capsys):
    with progress("searching", 3) as advance:
        for _ in range(3):
            advance("")
    assert capsys.readouterr().err == "searching: 1 of 3\nsearching: 2 of 3\nsearching: 3 of 3\n"


def test_a_terminal_has_a_bar_and_no_lines(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    with progress("searching", 3) as advance:
        for _ in range(3):
            advance("")
    said = capsys.readouterr().err
    assert "searching" in said
    assert "1 of 3" not in said
