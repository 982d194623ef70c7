"""What all commands have in common: exit status, and errors about flags of earlier versions."""

import importlib

import pytest

from posecascade.cli import app


@pytest.mark.parametrize(("command", "old", "message"), [
    ("predict", "--least_score=0.5", "--least_score: this flag was renamed; use --min_score"),
    ("predict", "--overlays", "--overlays: this flag was renamed; use --draw"),
    ("predict", "--nooverlays", "--nooverlays: this flag was renamed; use --nodraw"),
    ("benchmark", "--rest=10", "--rest: this flag was renamed; use --cooldown_s"),
    ("benchmark", "--calls=10", "--calls: this flag was renamed; use --num_runs"),
    ("benchmark", "--rounds=10", "--rounds: this flag was renamed; use --num_rounds"),
    ("client", "--check", "--check: this flag was renamed; use --status"),
])
def test_error_about_a_renamed_flag_contains_its_new_name(command, old, message, capsys):
    module = importlib.import_module(f"posecascade.cli.{command}")
    module.FLAGS.unparse_flags()
    with pytest.raises(SystemExit) as exited:
        app.run(module.main, module.FLAGS, module.__doc__, [f"posecascade-{command}", "INPUT", old])
    assert exited.value.code == 2
    assert capsys.readouterr().err == f"posecascade-{command}: error: {message}\n"


def test_renamed_flags_exist_under_their_new_names_only():
    for command, renamed in app.RENAMED_FLAGS.items():
        known = set(importlib.import_module(f"posecascade.cli.{command.removeprefix('posecascade-')}").FLAGS)
        for old, new in renamed.items():
            assert new in known or new.removeprefix("no") in known, (command, new)
            assert old not in known, (command, old)


def test_error_about_another_unknown_flag_suggests_a_similar_one(capsys):
    module = importlib.import_module("posecascade.cli.predict")
    module.FLAGS.unparse_flags()
    with pytest.raises(SystemExit) as exited:
        app.run(module.main, module.FLAGS, module.__doc__, ["posecascade-predict", "--min_scor=1"])
    assert exited.value.code == 2
    assert capsys.readouterr().err == (
        "posecascade-predict: error: Unknown command line flag 'min_scor'. Did you mean: min_score ?\n")
