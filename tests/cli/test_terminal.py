"""What a command says reaches every kind of stream."""

from __future__ import annotations

import io

import pytest

from gradiometer.cli.terminal import Terminal


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_what_a_stream_cannot_say_is_a_question_mark(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = {name: io.BytesIO() for name in ("stdout", "stderr")}
    for name, stream in written.items():
        monkeypatch.setattr(f"sys.{name}", io.TextIOWrapper(stream, encoding=encoding, write_through=True))
    terminal = Terminal()
    terminal.show("caf\u00e9 \u2588\u2588")
    terminal.error("\u5199\u771f.png is missing")
    assert (
        written["stdout"].getvalue().decode(encoding)
        == {
            "ascii": "caf? ??\n",
            "cp1252": "caf\u00e9 ??\n",
            "utf-8": "caf\u00e9 \u2588\u2588\n",
        }[encoding]
    )
    assert b".png is missing" in written["stderr"].getvalue()


def test_what_steers_a_terminal_is_not_said(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    for say in (terminal.show, terminal.note, terminal.error):
        say("\x1b[2Jcat\x07.png\ttwo\nlines\r")
    said = "".join(capsys.readouterr())
    assert said.count("\N{REPLACEMENT CHARACTER}[2Jcat\N{REPLACEMENT CHARACTER}.png") == 3
    assert not {"\x1b", "\x07", "\r"} & set(said)
    assert "lines" in said
