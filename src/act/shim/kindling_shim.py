# Runs one Python script for kindling, and answers on descriptor 3.
#
# A frame is a letter, the length of its payload in four bytes (big endian), and the payload. What comes from kindling
# are two payloads without a letter, both JSON: the parameters and the input.
# A script that binds `main` at its top level is imported, and `main` is called; any other one runs as `__main__`.

# Imported at every start of every task: modules that only some need (json alone takes longer than all the rest) are
# imported where they are needed.
import _thread
import os
import sys

CHANNEL = 3
MAX_BYTES = 16 << 20
ONLY_AST = 0x400
HAS_KEYWORDS = 0x08
IS_COROUTINE = 0x80
LOCK = _thread.RLock()


def read(count):
    data = bytearray()
    while len(data) < count:
        part = os.read(CHANNEL, min(count - len(data), 1 << 20))
        if not part:
            raise EOFError("kindling: the private channel is closed")
        data += part
    return data


def receive():
    try:
        return bytes(read(int.from_bytes(read(4), "big")))
    except EOFError as error:
        sys.exit(str(error))


def from_json(text):
    if text in (b"null", b"{}"):
        return {} if text == b"{}" else None
    import json

    return json.loads(text.decode())


def send(kind, payload):
    rest = memoryview(kind + len(payload).to_bytes(4, "big") + payload)
    try:
        with LOCK:
            while rest:
                rest = rest[os.write(CHANNEL, rest):]
    except (BrokenPipeError, ConnectionResetError):
        # Nobody listens any more; that is no error of the script.
        pass


def to_json(what, value):
    if value is None:
        return b"null"
    import json

    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError("%s cannot be written as JSON: %s" % (what, reason(error, value))) from None
    if b'"null":' in text and has_none_key(value):
        raise TypeError("%s cannot be written as JSON: it holds a key that is None" % what)
    if len(text) > MAX_BYTES:
        raise ValueError("%s has %d bytes as JSON, more than the %d allowed" % (what, len(text), MAX_BYTES))
    return text


def has_none_key(value):
    left = [value]
    while left:
        part = left.pop()
        if isinstance(part, dict):
            if None in part:
                return True
            left += part.values()
        elif isinstance(part, (list, tuple)):
            left += part
    return False


def reason(error, value):
    """Why a value cannot be written, in words that all languages share."""
    if isinstance(error, UnicodeEncodeError):
        return "it holds %s" % surrogate(error)
    if type(error) is not ValueError:
        return error
    import json

    odd = []
    try:
        json.loads(json.dumps(value), parse_constant=odd.append)
    except (ValueError, RecursionError):
        # A circle.
        return error
    return "it holds %s" % odd[0] if odd else error


def surrogate(error):
    return "a lone surrogate, %r, which is no character" % error.object[error.start]


class Log:
    __slots__ = ()

    def debug(self, message, *rest):
        record("debug", message, rest)

    def info(self, message, *rest):
        record("info", message, rest)

    def warn(self, message, *rest):
        record("warn", message, rest)

    warning = warn

    def error(self, message, *rest):
        record("error", message, rest)


def record(level, message, rest):
    text = str(message)
    if rest:
        try:
            text = text % rest
        except (TypeError, ValueError, KeyError):
            text = " ".join([text] + [str(part) for part in rest])
    text = "%s\n%s" % (level, text)
    send(b"L", text.encode("utf-8", "backslashreplace")[:MAX_BYTES])


# Headers of the connection, and of kindling.
NO_HEADERS = "connection content-length keep-alive proxy-connection te trailer transfer-encoding upgrade".split()
NAME_CHARACTERS = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"


def header(name, value):
    if not name or any(c not in NAME_CHARACTERS for c in name.lower()):
        raise ValueError("%r is not the name of a header" % (name,))
    if name.lower() in NO_HEADERS or name.lower().startswith("kindling-"):
        raise ValueError("the header %s is not for scripts to set" % name)
    texts = [str(one) for one in value] if isinstance(value, (list, tuple)) else [str(value)]
    if any(not (c == "\t" or " " <= c <= "~") for text in texts for c in text):
        raise ValueError("the header %s has a character that no header may have" % name)
    return texts if isinstance(value, (list, tuple)) else texts[0]


class Output:
    __slots__ = ()

    def response(self, answer=None, **more):
        answer = dict(answer or {}, **more)
        unknown = set(answer) - {"status", "headers", "body"}
        if unknown:
            raise TypeError("output.response takes status, headers and body, not %s" % ", ".join(sorted(map(str, unknown))))
        status = answer.get("status")
        status = 200 if status is None else status
        if isinstance(status, bool) or not isinstance(status, int) or not 200 <= status <= 599:
            raise ValueError("status is %r, not a number from 200 to 599" % (status,))
        headers = {str(name): header(str(name), value) for name, value in dict(answer.get("headers") or {}).items()}
        whole = {"status": status, "headers": headers, "body": answer.get("body")}
        send(b"H", to_json("the response", whole))


# What a request for a value is made under, with the process that may make one: the channel is that of one process.
KV_LOCK = _thread.allocate_lock()
KV_OWNER = os.getpid()
kv_asks = None


def ask(kind, name, key, value=b""):
    global kv_asks
    if not isinstance(key, str):
        raise TypeError("kv.%s takes a text, not %s" % (name, type(key).__name__))
    if os.getpid() != KV_OWNER:
        raise RuntimeError("kv: only the process that kindling started can use it")
    if kv_asks == _thread.get_ident():
        raise RuntimeError("kv: what interrupts a call of kv cannot use it")
    try:
        text = key.encode()
    except UnicodeEncodeError as error:
        raise ValueError("kv: the key %r holds %s" % (key, surrogate(error))) from None
    payload = kind + len(text).to_bytes(4, "big") + text + value
    if len(payload) > MAX_BYTES:
        raise ValueError("kv.%s: %d bytes are more than the %d allowed" % (name, len(payload), MAX_BYTES))
    with KV_LOCK:
        if kv_asks is not None:
            raise RuntimeError("kv: a call was interrupted, so that no other one can be made")
        kv_asks = _thread.get_ident()
        try:
            send(b"K", payload)
            kind, answer = bytes(read(1)), bytes(read(int.from_bytes(read(4), "big")))
            kv_asks = None
        finally:
            # Interrupted: whatever comes now may be the answer to this.
            if kv_asks is not None:
                kv_asks = "interrupted"
    if kind == b"E":
        raise RuntimeError(answer.decode())
    return from_json(answer)


class Kv:
    __slots__ = ()

    def get(self, key):
        return ask(b"g", "get", key)

    def set(self, key, value):
        ask(b"s", "set", key, to_json("the value of %r" % (key,), value))

    def delete(self, key):
        return ask(b"d", "delete", key)

    def list(self, prefix=""):
        return ask(b"l", "list", prefix)


class AsyncKv:
    __slots__ = ()

    async def get(self, key):
        return await beside(ask, b"g", "get", key)

    async def set(self, key, value):
        await beside(ask, b"s", "set", key, to_json("the value of %r" % (key,), value))

    async def delete(self, key):
        return await beside(ask, b"d", "delete", key)

    async def list(self, prefix=""):
        return await beside(ask, b"l", "list", prefix)


def beside(call, *args):
    import asyncio

    return asyncio.get_running_loop().run_in_executor(None, call, *args)


def is_async(main):
    code = getattr(main, "__code__", None)
    if code is not None and not hasattr(main, "__wrapped__"):
        return bool(code.co_flags & IS_COROUTINE)
    import inspect

    return inspect.iscoroutinefunction(inspect.unwrap(main))


def binds_main(body):
    for node in body:
        kind = type(node).__name__
        if kind in ("FunctionDef", "AsyncFunctionDef"):
            found = node.name == "main"
        elif kind == "Assign":
            found = any(map(names_main, node.targets))
        elif kind == "AnnAssign":
            found = node.value is not None and names_main(node.target)
        elif kind == "ImportFrom":
            found = any((alias.asname or alias.name) == "main" for alias in node.names)
        elif kind == "If" and is_script_guard(node.test):
            found = False
        elif kind in ("If", "Try", "TryStar", "With"):
            parts = [getattr(node, part, []) for part in ("body", "orelse", "finalbody")]
            parts += [handler.body for handler in getattr(node, "handlers", [])]
            found = any(map(binds_main, parts))
        else:
            found = False
        if found:
            return True
    return False


def names_main(target):
    if type(target).__name__ in ("Tuple", "List"):
        return any(map(names_main, target.elts))
    return getattr(target, "id", None) == "main"


def is_script_guard(test):
    return getattr(getattr(test, "left", None), "id", None) == "__name__"


def arguments(main, given):
    code = getattr(main, "__code__", None)
    if code is not None and not hasattr(main, "__wrapped__"):
        if code.co_flags & HAS_KEYWORDS:
            return given
        names = code.co_varnames[:code.co_argcount + code.co_kwonlyargcount]
    else:
        import inspect

        try:
            parameters = inspect.signature(main).parameters.values()
        except ValueError:
            return {}
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return given
        takes = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        names = [parameter.name for parameter in parameters if parameter.kind in takes]
    return {name: value for name, value in given.items() if name in names}


def wait_for(awaitable):
    import asyncio

    async def call():
        return await awaitable

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(call())
    finally:
        # What main left running is cancelled, and has a moment to clean up; threads are not waited for.
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=1))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def call_main(module, params, given):
    main = module.__dict__.get("main")
    if not callable(main):
        raise TypeError("main is %s, not a function" % type(main).__name__)
    given = {"params": params, "input": given, "log": Log(), "output": Output()}
    given["kv"] = None
    takes = arguments(main, given)
    for name in ("params", "input"):
        if name in takes:
            takes[name] = from_json(takes[name])
    if "kv" in takes:
        takes["kv"] = AsyncKv() if is_async(main) else Kv()
    value = main(**takes)
    if hasattr(value, "__await__"):
        value = wait_for(value)
    send(b"R", to_json("what main returned", value))


def report(error):
    try:
        text = "%s: %s" % (type(error).__name__, error)
    except Exception:
        text = type(error).__name__
    send(b"E", text.encode("utf-8", "backslashreplace")[:MAX_BYTES])
    # The frames of these files tell nobody anything.
    skipped = [os.path.dirname(os.path.abspath(__file__)) + os.sep]
    if "asyncio" in sys.modules:
        skipped.append(os.path.dirname(sys.modules["asyncio"].__file__) + os.sep)
    trace = error.__traceback__
    while trace and trace.tb_frame.f_code.co_filename.startswith(tuple(skipped)):
        trace = trace.tb_next
    error = error.with_traceback(trace)
    sys.excepthook(type(error), error, trace)


def exit_code(error):
    if error.code is None or isinstance(error.code, int):
        return error.code or 0
    print(error.code, file=sys.stderr)
    return 1


def leave(code):
    """Ends the process, whatever threads main left running."""
    threading = sys.modules.get("threading")
    if threading is not None and any(
        thread is not threading.main_thread() and not thread.daemon for thread in threading.enumerate()
    ):
        import atexit

        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (AttributeError, OSError, ValueError):
                pass
        os._exit(code & 0xFF)
    sys.exit(code)


def run_main(code, entry):
    params, given = receive(), receive()
    name = os.path.splitext(os.path.basename(entry))[0]
    module = type(sys)(name if name.isidentifier() and name not in sys.modules else "kindling_task")
    module.__file__ = entry
    sys.modules[module.__name__] = module
    try:
        exec(code, module.__dict__)
        call_main(module, params, given)
    except SystemExit as error:
        leave(exit_code(error))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        report(error)
        leave(1)
    leave(0)


def run_program(code, entry):
    module = type(sys)("__main__")
    module.__file__ = entry
    sys.modules["__main__"] = module
    try:
        exec(code, module.__dict__)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        report(error)
        sys.exit(1)


def run(starter):
    os.set_inheritable(CHANNEL, False)
    entry = sys.argv[1]
    sys.argv = [entry]
    if sys.path and sys.path[0] == os.path.dirname(os.path.abspath(starter)):
        sys.path[0] = os.path.dirname(entry)
    # Lines are wanted when they are written, not when a buffer is full.
    sys.stdout.reconfigure(line_buffering=True)
    try:
        with open(entry, "rb") as file:
            tree = compile(file.read(), entry, "exec", ONLY_AST, True)
        is_main = binds_main(tree.body)
        code = compile(tree, entry, "exec", 0, True)
    except Exception as error:
        send(b"M", b"main")
        report(error)
        sys.exit(1)
    send(b"M", b"main" if is_main else b"program")
    if is_main:
        run_main(code, entry)
    else:
        run_program(code, entry)
