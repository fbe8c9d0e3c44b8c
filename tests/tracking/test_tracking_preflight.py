"""What can never work is told before a sweep begins, and told from what may come back."""

import json
import shutil
import sqlite3
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from servers import free_port

from hft_ray.config import ConfigError
from hft_ray.tracking import artifact_location, probe, tracking_uri
from hft_ray.tracking.environment import open_client
from hft_ray.tracking.location import sqlite_path

EXPERIMENT = {"experiment_id": "1", "name": "e", "lifecycle_stage": "active"}
JSON, HTML = "application/json", "text/html"
FINE = (200, JSON, "{}")


@pytest.fixture
def answers():
    """A server; ``answers[path]`` is what it answers there, ``answers[""]`` everywhere else."""
    found = {"": FINE}

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path = self.path.partition("?")[0].rpartition("/mlflow/")[2]
            status, kind, text = found.get(path, found[""])
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST = answer  # noqa: N815 - http.server's names

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    found["uri"] = f"http://127.0.0.1:{server.server_port}"
    yield found
    server.shutdown()
    server.server_close()


def refused(uri, root, **options):
    with pytest.raises(ConfigError) as caught:
        probe(uri, "e", root, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((401, HTML, "<html>log in</html>"), "refuses the credentials (status 401)"),
        ((403, JSON, '{"message": "no"}'), "refuses the credentials (status 403)"),
        ((404, HTML, "<html>nothing</html>"), "no MLflow server answers there: status 404"),
        ((200, HTML, "<html>a page</html>"), "no MLflow server answers there: status 200"),
        ((200, JSON, '{"hello": 1}'), "no MLflow server answers there"),
        ((200, JSON, "[]"), "no MLflow server answers there"),
        ((302, HTML, ""), "no MLflow server answers there: status 302"),
        ((405, JSON, "{}"), "no MLflow server answers there: status 405"),
    ],
)
@pytest.mark.parametrize("write", [True, False])
def test_a_server_that_never_takes_anything_is_refused(answers, answer, said, write, tmp_path):
    answers[""] = answer
    assert said in refused(answers["uri"], tmp_path, write=write)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_server_in_trouble_is_an_outage(answers, status, tmp_path):
    answers[""] = (status, HTML, "<html>later</html>")
    assert f"status {status}" in probe(answers["uri"], "e", tmp_path)


def test_a_server_that_is_not_there_is_an_outage(tmp_path):
    assert probe(f"http://127.0.0.1:{free_port()}", "e", tmp_path)


def as_json(**content):
    return JSON, json.dumps(content)


def test_what_a_server_says_of_the_experiment(answers, tmp_path):
    uri, get, tag = answers["uri"], "experiments/get-by-name", "experiments/set-experiment-tag"
    answers[get] = (200, *as_json(experiment=EXPERIMENT))
    assert probe(uri, "e", tmp_path) is None
    answers[tag] = (403, *as_json(error_code="PERMISSION_DENIED", message="you may read"))
    assert "you may read" in refused(uri, tmp_path)
    assert probe(uri, "e", tmp_path, write=False) is None
    answers[tag] = (503, *as_json(error_code="TEMPORARILY_UNAVAILABLE", message="busy"))
    assert "503" in probe(uri, "e", tmp_path)
    answers[get] = (200, *as_json(experiment=EXPERIMENT | {"lifecycle_stage": "deleted"}))
    assert "mlflow experiments restore --experiment-id 1" in refused(uri, tmp_path)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A storage root whose path has all that an address could misread, with a store in it."""
    root = tmp_path_factory.mktemp("root") / "a%41 b?c#d%"
    assert probe(tracking_uri(None, root), "e", root) is None
    return root


def copied(made, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(made, root)
    return root, tracking_uri(None, root)


def test_a_store_lies_where_the_root_is(made):
    uri = tracking_uri(None, made)
    assert sqlite_path(uri) == made / "mlflow.db"
    assert (made / "mlflow.db").is_file()
    # MLflow makes a folder of the address's spelling, too, and leaves it empty.
    assert [p for p in made.parent.rglob("*") if p.is_file() and made not in p.parents] == []
    client = open_client(uri)
    run = client.create_run(client.get_experiment_by_name("e").experiment_id)
    client.log_text(run.info.run_id, "hello", "a/b.txt")
    assert len([*(made / "artifacts").rglob("b.txt")]) == 1
    assert probe(uri, "e", made, write=False) is None


def test_a_deleted_experiment_is_refused(made, tmp_path):
    root, uri = copied(made, tmp_path)
    client = open_client(uri)
    client.delete_experiment(client.get_experiment_by_name("e").experiment_id)
    for write in (True, False):
        assert "was deleted; restore it with" in refused(uri, root, write=write)


def test_the_schema_of_another_mlflow_is_refused(made, tmp_path):
    root, uri = copied(made, tmp_path)
    with sqlite3.connect(root / "mlflow.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '0123456789ab'")
    database.close()
    said = refused(uri, root)
    assert "another version of MLflow" in said or "cannot be used" in said


def test_what_is_not_a_database_is_refused(tmp_path):
    (tmp_path / "mlflow.db").write_text("hello, this is a text and no database at all\n" * 99)
    assert "tracking.uri" in refused(tracking_uri(None, tmp_path), tmp_path)


@pytest.mark.parametrize("write", [True, False])
def test_a_folder_that_cannot_be_written_is_refused(tmp_path, write):
    (tmp_path / "file").write_text("")
    root = tmp_path / "file" / "root"
    assert "nothing can be written there" in refused(tracking_uri(None, root), root, write=write)


def test_artifacts_that_cannot_be_written_are_refused(made, tmp_path):
    root, uri = tmp_path / "root", tracking_uri(None, tmp_path / "root")
    root.mkdir()
    shutil.copy(made / "mlflow.db", root)
    (tmp_path / "file").write_text("")
    open_client(uri).create_experiment("f", artifact_location=(tmp_path / "file/a").as_uri())
    with pytest.raises(ConfigError, match="the experiment's artifacts: nothing can be written"):
        probe(uri, "f", root)


def test_a_plan_makes_nothing(tmp_path):
    uri = tracking_uri(None, tmp_path / "root")
    assert probe(uri, "e", tmp_path / "root", write=False) is None
    assert [*tmp_path.iterdir()] == []
    assert artifact_location(uri, tmp_path / "root") is not None


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("sqlite:////a/b.db", "/a/b.db"),
        ("sqlite:////a/b%25c.db", "/a/b%c.db"),
        ("sqlite+pysqlite:////a/b.db?timeout=9", "/a/b.db"),
        ("postgresql://h/d", None),
    ],
)
def test_the_file_of_an_address(uri, path, tmp_path):
    found = sqlite_path(uri)
    assert (None if found is None else str(found)) == path
    assert tracking_uri(uri, tmp_path) == uri


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("http://[::1", "is not an address: Invalid IPv6 URL"),
        ("http://h:99999", "is not an address: Port out of range"),
        ("http://h:abc", "is not an address: Port could not"),
        ("http://", "must look like http://HOST:PORT"),
        ("https://a b", "must look like https://HOST:PORT"),
        ("sqlite://", "must be sqlite:///FILE"),
        ("sqlite://x.db", "must be sqlite:///FILE"),
    ],
)
def test_what_is_no_address_is_told_at_once(uri, said, tmp_path):
    with pytest.raises(ConfigError) as caught:
        tracking_uri(uri, tmp_path)
    assert said in str(caught.value)


def test_a_folder_is_no_database(tmp_path):
    """SQLAlchemy would try for minutes to open it."""
    said = refused(tracking_uri(f"sqlite:///{tmp_path}", tmp_path), tmp_path)
    assert "is not a file, as a database of sqlite is" in said
