"""Standard streams and folders as machines have them: closed, full, in ASCII, without readers, HOME or TMPDIR."""

import json
import os
import sys

import pytest
from small_runs import finished

# Runs `posecascade-data check` in a forked process per case of argv[1], after the case's program, with standard output
# and standard error in the files OUT and ERR; prints the exit status of each.
RUN = """
import json, os, sys, tempfile
from posecascade.cli import app, data, predict, streams, train
command = ["posecascade-data", "check", "--data=synthetic:2"]
for name, program in json.loads(sys.argv[1]).items():
    process = os.fork()
    if not process:
        for number, file in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{name}.{file}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        main, flag_values, words = data.main, data.FLAGS, list(command)
        exec(program)
        app.run(main, flag_values, "help", words)
    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
"""
CLOSED = "os.close({number}); sys.{name} = None\n"
PIPE = "reader, writer = os.pipe(); os.close(reader); os.dup2(writer, 1)\n"
FULL = "os.dup2(os.open('/dev/full', os.O_WRONLY), 1)\n"
ASCII = "sys.stdout = open(1, 'w', encoding='ascii', closefd=False)\n"
CASES = {  # name -> what happens before the command
    "plain": "",
    "closed output": CLOSED.format(number=1, name="stdout") + "words.append('--output=closed_output.json')",
    "closed errors": CLOSED.format(number=2, name="stderr"),
    "closed errors, bad flag": CLOSED.format(number=2, name="stderr") + "words.append('--x')",
    "all closed": "".join(CLOSED.format(number=n, name=name) for n, name in enumerate(("stdin", "stdout", "stderr"))),
    "closed input": CLOSED.format(number=0, name="stdin") + "main = lambda _: print(list(sys.stdin))",
    "input with a byte order mark": "reader, writer = os.pipe(); os.write(writer, '\\ufeff{}'.encode()); "
                                    "os.close(writer); os.dup2(reader, 0); sys.stdin = open(0, encoding='ascii')\n"
                                    "main = lambda _: print(list(sys.stdin))",
    "full": FULL,
    "full, at the end": FULL + "main = lambda _: print('done')",
    "no reader": PIPE,
    "no reader of a training": PIPE + "main = lambda _: [streams.say(f'epoch {n}') for n in range(9)]; "
                               "words.append('--output=no_reader.json')\n"
                               "main = lambda _, say=main: (say(_), data.main(_))",
    "no reader, interrupted": PIPE + "def main(_):\n    streams.say('epoch 1')\n    raise KeyboardInterrupt",
    "full, of a training": FULL + "main = lambda _: [streams.say(f'epoch {n}') for n in range(9)]",
    "ASCII": ASCII + "main = lambda _: print('p\\xf6se \\udcff')",
    "no temporary folder": "tempfile.tempdir = None; tempfile._candidate_tempdir_list = lambda: []\n"
                           "main = lambda _: tempfile.mkdtemp()",
    "no temporary folder, kept lines": "tempfile.tempdir = None; tempfile._candidate_tempdir_list = lambda: []\n"
                                       "def main(_):\n    with app.quietly(): print('x', file=sys.stderr)",
    "folder that cannot be written": "words.append('--output=/proc/nowhere/check.json')",
    "no home": "os.environ.pop('HOME'); import pwd; pwd.getpwuid = lambda number: {}[number]\n",
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """The exit status, standard output and standard error of each case, and the folder in which they ran."""
    folder = tmp_path_factory.mktemp("streams")
    done = finished([sys.executable, "-c", f"import os; os.chdir({str(folder)!r})\n{RUN}", json.dumps(CASES)])
    assert done.returncode == 0, done.stderr
    texts = ((folder / f"{name}.{file}").read_text() for name in CASES for file in ("out", "err"))
    return {name: (int(status), next(texts), next(texts))
            for name, status in zip(CASES, done.stdout.split(), strict=True)}, folder


def test_closed_streams_change_neither_results_nor_exit_status(outcomes):
    ended, folder = outcomes
    table = ended["plain"][1]
    assert ended["plain"] == (0, table, "") and "people" in table
    assert ended["closed output"] == (0, "", "")
    assert list(json.loads((folder / "closed_output.json").read_text())) == ["synthetic:2"]
    assert ended["closed errors"] == ended["plain"]
    assert ended["closed errors, bad flag"] == (2, "", "")
    assert ended["all closed"] == (0, "", "")
    assert ended["closed input"] == (0, "[]\n", "")
    assert ended["no home"] == ended["plain"]


def test_standard_input_is_utf_8_with_or_without_a_byte_order_mark(outcomes):
    assert outcomes[0]["input with a byte order mark"] == (0, "['{}']\n", "")


def test_output_that_cannot_be_written_is_one_line(outcomes):
    ended, _ = outcomes
    full = "posecascade-data: error: standard output or a file: cannot be written (No space left on device); free " \
           "disk space\n"
    assert ended["full"] == ended["full, at the end"] == (2, "", full)
    assert ended["no reader"] == (0, "", "")
    assert ended["full, of a training"] == (
        0, "", "standard output cannot be written (No space left on device); going on without it\n")
    assert ended["folder that cannot be written"] == (
        2, ended["plain"][1], "posecascade-data: error: /proc/nowhere: cannot be read or written (No such file or "
                              "directory); check the path and its permissions\n")


def test_a_reader_that_went_away_stops_no_command_that_writes_files(outcomes):
    ended, folder = outcomes
    assert ended["no reader of a training"] == (0, "", "")
    assert list(json.loads((folder / "no_reader.json").read_text())) == ["synthetic:2"]
    assert ended["no reader, interrupted"] == (130, "", "posecascade-data: interrupted\n")


def test_characters_that_cannot_be_encoded_are_escaped(outcomes):
    assert outcomes[0]["ASCII"] == (0, "p\\xf6se \\udcff\n", "")


def test_a_missing_temporary_folder_is_one_line(outcomes):
    ended, _ = outcomes
    assert ended["no temporary folder"] == (
        2, "", "posecascade-data: error: TMPDIR: no folder for temporary files can be written, neither the one that it "
               "names nor /tmp; set it to a folder that can\n")
    assert ended["no temporary folder, kept lines"] == (0, "", "")


def test_no_file_is_left_behind(outcomes):
    _, folder = outcomes
    expected = {f"{name}.{file}" for name in CASES for file in ("out", "err")} | {
        "closed_output.json", "no_reader.json"}
    assert set(os.listdir(folder)) == expected
