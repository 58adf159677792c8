"""Between a client and farebox: what goes by is passed on as it is, and remembered."""

import http.client
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from checks import URL

# Of one connection; each side makes its own.
HOP = {"connection", "host", "keep-alive", "transfer-encoding"}


class Asked:
    """A request, and when it came and was answered."""

    def __init__(self, method, path, headers, body):
        self.method, self.path, self.headers, self.body = method, path, headers, body
        self.began, self.ended, self.status, self.answer = time.monotonic(), None, None, b""

    @property
    def json(self):
        return json.loads(self.body)

    def overlaps(self, other):
        return self.began < other.ended and other.began < self.ended


class Tap:
    """`with Tap() as tap:` a client that is given `tap.url` is served by farebox; `tap.asked` is what it asked for."""

    def __init__(self):
        self.asked = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def of(self, path):
        return [asked for asked in self.asked if asked.path.partition("?")[0] == path]

    def _handler(tap):
        class Handler(BaseHTTPRequestHandler):
            def pass_on(self):
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                asked = Asked(self.command, self.path, headers, body)
                tap.asked.append(asked)
                farebox = http.client.HTTPConnection(urlsplit(URL).netloc)
                try:
                    kept = {name: value for name, value in headers.items() if name not in HOP}
                    farebox.request(self.command, self.path, body, kept)
                    self._answer(farebox.getresponse(), asked)
                except OSError:
                    pass  # One of the two has gone; so has the other then.
                finally:
                    asked.ended = time.monotonic()
                    farebox.close()

            def _answer(self, answer, asked):
                asked.status = answer.status
                self.send_response_only(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in HOP:
                        self.send_header(name, value)
                self.send_header("connection", "close")
                self.end_headers()
                while piece := answer.read1():
                    asked.answer += piece
                    self.wfile.write(piece)
                    self.wfile.flush()

            do_GET = do_HEAD = do_POST = pass_on

            def log_message(self, *_):
                pass

        return Handler
