// Runs one JavaScript or TypeScript file for kindling: on Node.js, Bun or Deno. Answers on descriptor 3; on Deno it
// hears on 3 and answers on 4.
//
// A frame is a letter, the length of its payload in four bytes (big endian), and the payload. What comes from kindling
// are two payloads without a letter, both JSON: the parameters and the input.
// A file that exports a function is imported, and the function is called; any other one is a program. Programs of Bun
// and Deno are started without this file wherever their text tells that they are one.

"use strict";

const fs = require("node:fs");
const Module = require("node:module");
const { pathToFileURL } = require("node:url");
const util = require("node:util");

const MAX_BYTES = 16 * 1024 * 1024;
const isNode = typeof Deno === "undefined" && !process.versions.bun;

/** How bytes are read from kindling and written to it, as many as just go. */
const channel = typeof Deno === "undefined" ? descriptors() : pipes();

function descriptors() {
  return {
    read: (data, at) => fs.readSync(3, data, at, data.length - at, null),
    hear: (data, at) =>
      new Promise((heard, failed) => {
        fs.read(3, data, at, data.length - at, null, (error, got) => (error ? failed(error) : heard(got)));
      }),
    write: (data, at) => fs.writeSync(3, data, at),
  };
}

/** Deno knows only descriptors that it opened itself, which it can do with a pipe and not with a socket. */
function pipes() {
  let hears, answers;
  try {
    [hears, answers] = [Deno.openSync("/dev/fd/3"), Deno.openSync("/dev/fd/4", { write: true })];
  } catch (error) {
    const advice = "this deno is started by another program, which keeps its descriptors: name deno itself with `runtimes.deno`";
    throw new Error(`kindling: the private channel is not there (${error.message}); ${advice}`);
  }
  return {
    read: (data, at) => hears.readSync(data.subarray(at)) ?? 0,
    hear: async (data, at) => (await hears.read(data.subarray(at))) ?? 0,
    write: (data, at) => answers.writeSync(data.subarray(at)),
  };
}

function read(count) {
  const data = Buffer.allocUnsafe(count);
  for (let at = 0; at < count; ) {
    const got = channel.read(data, at);
    if (got === 0) throw new Error("kindling: the private channel is closed");
    at += got;
  }
  return data;
}

const receive = () => JSON.parse(read(read(4).readUInt32BE(0)).toString("utf8"));

let asked = null;

/** The parameters and the input. What is not read would break the channel when the process ends. */
const request = () => (asked ??= [receive(), receive()]);

function send(kind, payload) {
  const body = Buffer.from(payload);
  const head = Buffer.alloc(5);
  head.write(kind, 0, "latin1");
  head.writeUInt32BE(body.length, 1);
  const frame = Buffer.concat([head, body]);
  try {
    for (let at = 0; at < frame.length; ) at += channel.write(frame, at);
  } catch (error) {
    // Nobody listens any more; that is no error of the script.
    const gone = error.code === "EPIPE" || error.code === "ECONNRESET" || error.name === "BrokenPipe";
    if (!gone) throw error;
  }
}

let mode = null;

function announce(found) {
  if (mode === null) send("M", (mode = found));
}

/** What would be written as null although it is not null. A property that is undefined is as one that is not there. */
function lost(value) {
  let found = null;
  JSON.stringify(value, function (name, part) {
    const isNumber = typeof part === "number" || part instanceof Number;
    const isNothing = part === undefined || typeof part === "function" || typeof part === "symbol";
    if (isNumber && !Number.isFinite(Number(part))) found ??= String(part);
    // What it makes of itself is null.
    if (part === null && util.types.isDate(this[name])) found ??= "an invalid date";
    if (isNothing && Array.isArray(this)) found ??= part === undefined ? "undefined" : `a ${typeof part}`;
    return part;
  });
  return found;
}

/** What would be left out, or written as an empty map, although it is something. */
function hidden(value) {
  const left = [value];
  while (left.length > 0) {
    const part = left.pop();
    const kind = typeof part;
    if (part === null || typeof part?.toJSON === "function") continue;
    if (kind === "function" || kind === "symbol") return `a ${kind}`;
    if (kind !== "object") continue;
    if (util.types.isMap(part) || util.types.isSet(part)) return `a ${util.types.isMap(part) ? "Map" : "Set"}`;
    for (const name of Object.keys(part)) left.push(part[name]);
  }
  return null;
}

/** Half of a surrogate pair, which is written as an escape. */
function surrogate(text) {
  const lone = /(?<!\\)(?:\\\\)*\\(ud[89a-f][0-9a-f]{2})/.exec(text);
  return lone && `a lone surrogate, '\\${lone[1]}', which is no character`;
}

function toJson(what, value) {
  if (value === undefined) return "null";
  let text;
  try {
    text = JSON.stringify(value);
  } catch (error) {
    throw new TypeError(`${what} cannot be written as JSON: ${error.message}`);
  }
  if (text === undefined) throw new TypeError(`${what} cannot be written as JSON: it is a ${typeof value}`);
  const odd = (text.includes("null") && lost(value)) || hidden(value) || (text.includes("\\ud") && surrogate(text));
  if (odd) throw new TypeError(`${what} cannot be written as JSON: it holds ${odd}`);
  const size = Buffer.byteLength(text);
  if (size > MAX_BYTES) throw new RangeError(`${what} has ${size} bytes as JSON, more than the ${MAX_BYTES} allowed`);
  return text;
}

const record = (level) => (message, ...rest) =>
  send("L", Buffer.from(`${level}\n${util.format(message, ...rest)}`).subarray(0, MAX_BYTES));

const log = Object.freeze({
  debug: record("debug"),
  info: record("info"),
  warn: record("warn"),
  error: record("error"),
});

/** Headers of the connection, and of kindling. */
const noHeaders =
  /^(connection|content-length|keep-alive|proxy-connection|te|trailer|transfer-encoding|upgrade|kindling-.*)$/i;

function header(name, value) {
  if (!/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(name)) throw new TypeError(`${util.inspect(name)} is not the name of a header`);
  if (noHeaders.test(name)) throw new TypeError(`the header ${name} is not for scripts to set`);
  const texts = (Array.isArray(value) ? value : [value]).map(String);
  if (texts.some((text) => /[^\t\x20-\x7e]/.test(text))) {
    throw new TypeError(`the header ${name} has a character that no header may have`);
  }
  return Array.isArray(value) ? texts : texts[0];
}

const output = Object.freeze({
  response(answer) {
    if (answer === null || typeof answer !== "object") throw new TypeError("output.response takes {status, headers, body}");
    const { status = 200, headers, body = null, ...unknown } = answer;
    const names = Object.keys(unknown);
    if (names.length) throw new TypeError(`output.response takes status, headers and body, not ${names.join(", ")}`);
    if (!Number.isInteger(status) || status < 200 || status > 599) {
      throw new RangeError(`status is ${util.inspect(status)}, not a number from 200 to 599`);
    }
    const texts = Object.entries(headers ?? {}).map(([name, value]) => [name, header(name, value)]);
    send("H", toJson("the response", { status, headers: Object.fromEntries(texts), body }));
  },
});

/** The request for a value that was made last: there is one at a time, and each has one answer. */
let turn = Promise.resolve();

async function ask(kind, name, key, value = "") {
  if (typeof key !== "string") throw new TypeError(`kv.${name} takes a text, not ${key === null ? "null" : typeof key}`);
  if (/\p{Surrogate}/u.test(key)) {
    const shown = JSON.stringify(key).slice(1, -1);
    throw new TypeError(`kv: the key '${shown}' holds a lone surrogate, which is no character`);
  }
  const text = Buffer.from(key);
  const head = Buffer.alloc(5);
  head.write(kind, 0, "latin1");
  head.writeUInt32BE(text.length, 1);
  const payload = Buffer.concat([head, text, Buffer.from(value)]);
  if (payload.length > MAX_BYTES) {
    throw new RangeError(`kv.${name}: ${payload.length} bytes are more than the ${MAX_BYTES} allowed`);
  }
  const answer = turn.then(() => exchange(payload));
  turn = answer.catch(() => {});
  return answer;
}

async function exchange(payload) {
  send("K", payload);
  const head = await hear(5);
  const answer = (await hear(head.readUInt32BE(1))).toString("utf8");
  if (head.toString("latin1", 0, 1) === "E") throw new Error(answer);
  return JSON.parse(answer);
}

async function hear(count) {
  const data = Buffer.allocUnsafe(count);
  for (let at = 0; at < count; ) {
    const got = await channel.hear(data, at);
    if (got === 0) throw new Error("kindling: the private channel is closed");
    at += got;
  }
  return data;
}

const kv = Object.freeze({
  get: (key) => ask("g", "get", key),
  set: async (key, value) => {
    if (value === undefined) throw new TypeError(`the value of ${util.inspect(key)} is undefined, which is not JSON`);
    await ask("s", "set", key, toJson(`the value of ${util.inspect(key)}`, value));
  },
  delete: (key) => ask("d", "delete", key),
  list: (prefix = "") => ask("l", "list", prefix),
});

function summary(error) {
  if (error instanceof Error) return `${error.name}: ${error.message}`;
  return `threw ${util.inspect(error, { breakLength: Infinity })}`;
}

/** Ends the process when all that was printed is out: a pipe that is full takes the rest later. */
async function leave(code) {
  // What was asked and not waited for.
  await turn;
  for (const stream of [process.stdout, process.stderr]) {
    if (stream.writableLength > 0) await new Promise((done) => stream.write("", done));
  }
  process.exit(code);
}

/** Reports what was thrown, and ends. */
function fail(error) {
  send("E", summary(error));
  const lines = util.inspect(error).split("\n");
  // The frames of this file and of Node.js itself tell nobody anything.
  const own = (line) => /^\s+at /.test(line) && (line.includes(__filename) || line.includes("node:internal/"));
  process.stderr.write(lines.filter((line) => !own(line)).join("\n") + "\n");
  return leave(process.exitCode || 1);
}

function functionOf(exported) {
  const main = [exported.default, exported.default?.default, exported.default?.main, exported.main];
  return main.find((candidate) => typeof candidate === "function");
}

async function callMain(main) {
  const [params, input] = request();
  let settled = false;
  process.on("beforeExit", () => {
    if (!settled) fail(new Error("main did not end: it waits for what nothing is left to bring about"));
  });
  try {
    const value = await main({ params, input, kv, log, output });
    send("R", toJson("what main returned", value));
  } catch (error) {
    settled = true;
    return fail(error);
  }
  settled = true;
  // Whatever timers and connections it left.
  return leave(process.exitCode);
}

/** Keeps Node.js from advising on a package.json whenever a script without one is a module. */
function silenceAdvice() {
  const printers = process.listeners("warning");
  process.removeAllListeners("warning");
  process.on("warning", (warning) => {
    if (warning.code === "MODULE_TYPELESS_PACKAGE_JSON") return;
    for (const print of printers) print.call(process, warning);
  });
}

/** The exports of a file: by `require` where it can be no module, because that is faster. */
async function load(entry, source) {
  const isModule = !isNode || entry.endsWith(".mjs") || /\b(import|export)\b/.test(source);
  if (isModule) return import(pathToFileURL(entry).href);
  return { default: require(entry) };
}

function run() {
  const entry = process.argv[2];
  process.argv.splice(1, process.argv.length, entry);
  silenceAdvice();
  // What Node.js itself reports: errors that nobody caught, and rejections that nobody handled.
  process.on("uncaughtExceptionMonitor", (error) => {
    if (process.listenerCount("uncaughtException") === 0) send("E", summary(error));
  });
  const source = fs.readFileSync(entry, "utf8");
  if (!isNode) request();
  if (isNode && !/\bexports?\b/.test(source)) {
    // It cannot export anything: it runs as if it had been named on the command line.
    announce("program");
    return Module.runMain(entry);
  }
  const mayHaveMain = /\bexport\s+default\b|\bexports\b|\bexport\b.*\bmain\b/.test(source);
  process.on("exit", () => announce(mayHaveMain ? "main" : "program"));
  return load(entry, source).then(
    (exported) => {
      const main = functionOf(exported);
      announce(main ? "main" : "program");
      return main && callMain(main);
    },
    (error) => {
      // Node.js alone knows the line of what it could not read.
      if (error instanceof SyntaxError) throw error;
      return fail(error);
    },
  );
}

run();
