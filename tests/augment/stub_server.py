"""A local chat endpoint that answers, or fails, as a test tells it to."""

import collections
import contextlib
import http.server
import json
import socket
import socketserver
import threading
import time


class StubServer:
  """Serves inside `with`; `rules(number, body)` returns the result of each request.

  A result is a dict (the reply), a tuple (status, reply, headers), "drop" (the
  connection breaks in the middle of the body), "garbage" (invalid JSON) or "hang".
  """

  def __init__(self, rules=None, delay: float = 0.0):
    self.rules = rules or (lambda number, body: reply("new " + data(body)))
    self.delay = delay
    self.lock = threading.Lock()
    self.bodies: list[dict] = []
    self.headers: list[dict] = []
    self.times: list[float] = []
    self.in_flight = self.max_in_flight = 0
    self.connections: set[socket.socket] = set()
    self.closed = threading.Event()
    self.server = self.thread = None
    self.port = 0

  def __enter__(self):
    stub = self

    class Handler(http.server.BaseHTTPRequestHandler):
      protocol_version = "HTTP/1.1"

      def setup(self):
        super().setup()
        stub.connections.add(self.connection)
        if stub.closed.is_set():
          stub.hang_up()

      def finish(self):
        stub.connections.discard(self.connection)
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
    self.closed.set()
    self.server.shutdown()
    self.hang_up()
    self.server.server_close()  # also waits for the threads of the requests
    self.thread.join()

  def hang_up(self) -> None:
    """Closes all connections, as a server that dies does."""
    for connection in list(self.connections):
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
      self.in_flight += 1
      self.max_in_flight = max(self.max_in_flight, self.in_flight)
    try:
      self.closed.wait(self.delay)
      result = self.rules(number, body)
      if result == "hang":
        self.closed.wait(30)
        return
    finally:
      with self.lock:
        self.in_flight -= 1
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
  """The text between the last pair of markers in a request's user message."""
  user = body["messages"][-1]["content"]
  return user.rsplit("\n</data-", 1)[0].rsplit("<data-", 1)[1].split(">\n", 1)[1]


def sequence(results, otherwise=None):
  """Rules that return each of `results` once for every text, then its rewrite."""
  counts = collections.Counter()
  lock = threading.Lock()

  def rules(number, body):
    with lock:
      turn = counts[data(body)]
      counts[data(body)] += 1
    if turn < len(results):
      return results[turn]
    return otherwise or reply("new " + data(body))

  return rules
