"""A chat endpoint on the loopback that does what a test tells it, faults included."""

import collections
import contextlib
import http.server
import json
import socket
import socketserver
import threading
import time


class Stub:
  """Serves until left; `rules(number, body)` gives what request `number` gets.

  A rule's result is a dict (the reply), or a tuple (status, reply, headers), or one of
  "drop" (the connection breaks in mid-body), "garbage" and "hang".
  """

  def __init__(self, rules=None, delay: float = 0.0):
    self.rules = rules or (lambda number, body: reply("new " + data(body)))
    self.delay = delay
    self.lock = threading.Lock()
    self.bodies: list[dict] = []
    self.headers: list[dict] = []
    self.times: list[float] = []
    self.flying = self.most = 0
    self.open: set[socket.socket] = set()
    self.left = threading.Event()
    self.server = self.thread = None
    self.port = 0

  def __enter__(self):
    stub = self

    class Handler(http.server.BaseHTTPRequestHandler):
      protocol_version = "HTTP/1.1"

      def setup(self):
        super().setup()
        stub.open.add(self.connection)
        if stub.left.is_set():
          stub.hang_up()

      def finish(self):
        stub.open.discard(self.connection)
        super().finish()

      def do_POST(self):
        with contextlib.suppress(ConnectionError):
          stub.handle(self)

      def log_message(self, *arguments):
        pass

    class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
      request_queue_size = 128

    self.server = Server(("127.0.0.1", self.port), Handler)
    self.port = self.server.server_address[1]
    self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
    self.thread.start()
    return self

  def __exit__(self, *error):
    self.left.set()
    self.server.shutdown()
    self.hang_up()
    self.server.server_close()  # waits for the threads of the requests, too
    self.thread.join()

  def hang_up(self) -> None:
    """A server that is gone keeps no connection alive."""
    for connection in list(self.open):
      with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)

  @property
  def url(self) -> str:
    return f"http://127.0.0.1:{self.port}/v1"

  def handle(self, request) -> None:
    body = json.loads(request.rfile.read(int(request.headers["content-length"])))
    with self.lock:
      number = len(self.bodies)
      self.bodies.append(body)
      self.headers.append({k.lower(): v for k, v in request.headers.items()})
      self.times.append(time.monotonic())
      self.flying += 1
      self.most = max(self.most, self.flying)
    try:
      self.left.wait(self.delay)
      result = self.rules(number, body)
      if result == "hang":
        self.left.wait(30)
        return
    finally:
      with self.lock:
        self.flying -= 1
    status, content, headers = 200, result, {}
    if isinstance(result, tuple):
      status, content, headers = result
    raw = b"{'choices': <" if result == "garbage" else json.dumps(content).encode()
    request.send_response(status)
    request.send_header("content-type", "application/json")
    for name, value in headers.items():
      request.send_header(name, value)
    request.send_header("content-length", str(len(raw) + 100 * (result == "drop")))
    request.end_headers()
    request.wfile.write(raw)
    if result == "drop":
      request.close_connection = True


def reply(content, finish="stop", **message) -> dict:
  return {
    "choices": [
      {
        "index": 0,
        "finish_reason": finish,
        "message": {"role": "assistant", "content": content, **message},
      }
    ],
    "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
  }


def error(status, message="no", headers=None, **fields) -> tuple:
  return status, {"error": {"message": message, **fields}}, headers or {}


def data(body) -> str:
  """What stands between the markers of a request's user message, the last time."""
  user = body["messages"][-1]["content"]
  return user.rsplit("\n</data-", 1)[0].rsplit("<data-", 1)[1].split(">\n", 1)[1]


def answers(sequence, otherwise=None):
  """Rules that give each text the results of `sequence` in turn, then its rewrite."""
  seen = collections.Counter()
  lock = threading.Lock()

  def rules(number, body):
    with lock:
      turn = seen[data(body)]
      seen[data(body)] += 1
    if turn < len(sequence):
      return sequence[turn]
    return otherwise or reply("new " + data(body))

  return rules
