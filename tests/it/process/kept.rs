//! What scripts keep between their runs: `kv` of every runtime that has a `main`.

use kindling::model::spec::{Permissions, Runtime, Sandbox};
use serde_json::json;

use super::bench::{Bench, Done, finish, has, line};

/// The same story in each language: it sets, gets, lists, deletes and asks for what is not there.
const JAVASCRIPT: &str = r#"
export default async ({ kv }) => {
  const missing = await kv.get("a/1");
  const none = await kv.set("a/1", { n: 1.5, text: "\u0000é火", list: [null, true] });
  await kv.set("a_2", "x".repeat(300000));
  await kv.set("b", null);
  const all = await Promise.all([kv.get("a/1"), kv.get("a_2"), kv.get("b")]);
  all[1] = all[1].length;
  const keys = [await kv.list("a"), await kv.list(), await kv.list("a_")];
  const gone = [await kv.delete("b"), await kv.delete("b"), await kv.get("b")];
  return [missing, none ?? null, all, keys, gone];
};
"#;

const PYTHON: &str = r#"
def main(kv):
    missing = kv.get("a/1")
    none = kv.set("a/1", {"n": 1.5, "text": "\0é火", "list": [None, True]})
    kv.set("a_2", "x" * 300000)
    kv.set("b", None)
    found = [kv.get("a/1"), len(kv.get("a_2")), kv.get("b")]
    keys = [kv.list("a"), kv.list(), kv.list("a_")]
    gone = [kv.delete("b"), kv.delete("b"), kv.get("b")]
    return [missing, none, found, keys, gone]
"#;

const RUBY: &str = r#"
def main(kv:)
  missing = kv.get("a/1")
  none = kv.set("a/1", { "n" => 1.5, "text" => "\0é火", "list" => [nil, true] })
  kv.set("a_2", "x" * 300_000)
  kv.set("b", nil)
  found = [kv.get("a/1"), kv.get("a_2").size, kv.get("b")]
  keys = [kv.list("a"), kv.list, kv.list("a_")]
  gone = [kv.delete("b"), kv.delete("b"), kv.get("b")]
  [missing, none, found, keys, gone]
end
"#;

fn check(done: &Done) {
    let value = json!({"n": 1.5, "text": "\0é火", "list": [null, true]});
    let all = json!(["a/1", "a_2", "b"]);
    assert_eq!(
        done.well(),
        json!([null, null, [value, 300_000, null], [["a/1", "a_2"], all, ["a_2"]], [true, false, null]])
    );
    assert_eq!(done.kept.keys().collect::<Vec<_>>(), ["a/1", "a_2"]);
    assert!(done.log.is_empty(), "{:?}", done.log);
}

fn scripts() -> Vec<(Runtime, &'static str, String)> {
    let awaited = PYTHON.replace("def main", "async def main").replace("kv.", "await kv.");
    let awaited = awaited.replace("len(await kv.get(\"a_2\"))", "len((await kv.get(\"a_2\")))");
    let scripts = [
        (Runtime::Python, "task.py", PYTHON.to_owned()),
        (Runtime::Python, "task.py", awaited),
        (Runtime::Ruby, "task.rb", RUBY.to_owned()),
        (Runtime::Node, "task.mjs", JAVASCRIPT.to_owned()),
        (Runtime::Deno, "task.js", JAVASCRIPT.to_owned()),
        (Runtime::Bun, "task.js", JAVASCRIPT.to_owned()),
    ];
    scripts.into_iter().filter(|(runtime, ..)| has(runtime.interpreter())).collect()
}

#[tokio::test]
async fn values_are_kept_and_found_in_every_language() {
    let bench = Bench::new();
    for (runtime, entry, script) in scripts() {
        println!("{runtime:?}");
        check(&bench.script(runtime, entry, &script).run().await);
    }
}

#[tokio::test]
async fn a_confined_script_has_its_values_too() {
    if !has("deno") {
        return;
    }
    let bench = Bench::new();
    let mut job = bench.script(Runtime::Deno, "task.js", JAVASCRIPT);
    let sandbox = Sandbox { net: Some(Vec::new()), ..Sandbox::default() };
    job.spec.permissions = Permissions { sandbox: Some(sandbox), ..Permissions::default() };
    check(&job.run().await);
}

#[tokio::test]
async fn what_cannot_be_kept_is_an_error_that_names_the_key() {
    let bench = Bench::new();
    let python = "def main(kv):\n  said = []\n  for key, value in [('full', 1), ('', 1), ('a\\0b', 1), ('k' * 513, 1), ('o', object()), ('big', 'x' * (17 << 20)), (5, 1)]:\n    \
                  try:\n      kv.set(key, value)\n    except Exception as error:\n      said.append(str(error))\n  kv.set('after', 1)\n  return said\n";
    let javascript = "export default async ({ kv }) => {\n  const said = [];\n  for (const [key, value] of [['full', 1], ['', 1], ['a\\0b', 1], ['k'.repeat(513), 1], ['o', () => 1], ['big', 'x'.repeat(17 << 20)], [5, 1]]) {\n    \
                      try { await kv.set(key, value); } catch (error) { said.push(error.message); }\n  }\n  await kv.set('after', 1);\n  return said;\n};\n";
    let ruby = "def main(kv:)\n  said = [['full', 1], ['', 1], [\"a\\0b\", 1], ['k' * 513, 1], ['o', Float::NAN], ['big', 'x' * (17 << 20)], [5, 1]].map do |key, value|\n    \
                begin\n      kv.set(key, value)\n      nil\n    rescue StandardError => error\n      error.message\n    end\n  end\n  kv.set('after', 1)\n  said.compact\nend\n";
    for (runtime, entry, _) in scripts() {
        let script = match runtime {
            Runtime::Python => python,
            Runtime::Ruby => ruby,
            _ => javascript,
        };
        let done = bench.script(runtime.clone(), entry, script).run().await;
        let said = done.well();
        let said: Vec<&str> = said.as_array().unwrap().iter().map(|said| said.as_str().unwrap()).collect();
        let long = format!("kv: the key `{}...` has more than 512 bytes", "k".repeat(60));
        assert_eq!(
            said[..4],
            [
                "kv: `full` finds no room",
                "kv: the key `` is empty",
                "kv: the key `a\\0b` has a control character in it",
                &long
            ],
            "{runtime:?}"
        );
        let rest = ["cannot be written as JSON", "more than the 16777216 allowed", "takes a text, not"];
        assert_eq!(said.len(), 7, "{runtime:?} {said:?}");
        for (said, part) in said[4..].iter().zip(rest) {
            assert!(said.contains(part), "{runtime:?}: {said}");
        }
        assert_eq!(done.kept.into_iter().collect::<Vec<_>>(), [("after".to_owned(), "1".to_owned())]);
    }
}

#[tokio::test]
async fn what_is_no_json_is_refused_alike_in_every_language() {
    let bench = Bench::new();
    let python = "def main(kv):\n  said = []\n  odd = [float('nan'), [float('-inf')], {'a': float('inf')}, '\\udc80', {'\\udc80': 1}]\n  for value in odd:\n    \
                  try:\n      kv.set('k', value)\n    except Exception as error:\n      said.append(str(error))\n  \
                  try:\n    kv.get('\\udc80')\n  except Exception as error:\n    said.append(str(error))\n  \
                  kv.set('big', 12345678901234567890123)\n  kv.set('kept', ['NaN', {'Infinity': None}])\n  return said\n";
    let javascript = "export default async ({ kv }) => {\n  const said = [];\n  const odd = [NaN, [-Infinity], { a: Infinity }, '\\udc80', { '\\udc80': 1 }];\n  \
                      for (const value of [...odd, undefined, [undefined], [() => 1], new Number(NaN)]) {\n    try { await kv.set('k', value); } catch (error) { said.push(error.message); }\n  }\n  \
                      try { await kv.get('\\udc80'); } catch (error) { said.push(error.message); }\n  \
                      await kv.set('kept', ['NaN', { Infinity: null, gone: undefined, text: '\\\\ud800 \\u{1f600}' }]);\n  return said;\n};\n";
    let ruby = "def main(kv:)\n  said = [Float::NAN, [-Float::INFINITY], { 'a' => Float::INFINITY }].map do |value|\n    \
                begin\n      kv.set('k', value)\n      nil\n    rescue StandardError => error\n      error.message\n    end\n  end\n  \
                kv.set('big', 12345678901234567890123)\n  kv.set('kept', ['NaN', { 'Infinity' => nil }])\n  said.compact\nend\n";
    for (runtime, entry, script) in scripts() {
        let is_async = script.contains("await");
        let (script, is_javascript) = match runtime {
            Runtime::Python if is_async => {
                (python.replace("def main", "async def main").replace("kv.", "await kv."), false)
            }
            Runtime::Python => (python.to_owned(), false),
            Runtime::Ruby => (ruby.to_owned(), false),
            _ => (javascript.to_owned(), true),
        };
        let done = bench.script(runtime.clone(), entry, &script).run().await;
        let said: Vec<String> = serde_json::from_value(done.well()).unwrap();
        let quote = if matches!(runtime, Runtime::Ruby) { '"' } else { '\'' };
        let odd =
            |what: &str| format!("the value of {quote}k{quote} cannot be written as JSON: it holds {what}");
        assert_eq!(said[..3], [odd("NaN"), odd("-Infinity"), odd("Infinity")], "{runtime:?}");
        if !matches!(runtime, Runtime::Ruby) {
            let lone = odd("a lone surrogate, '\\udc80', which is no character");
            assert_eq!(said[3..5], [lone.clone(), lone], "{runtime:?}");
            let key = said.last().unwrap();
            assert!(
                key.starts_with("kv: the key '\\u") && key.contains("lone surrogate"),
                "{runtime:?}: {key}"
            );
        }
        if is_javascript {
            let undefined = "the value of 'k' is undefined, which is not JSON".to_owned();
            assert_eq!(
                said[5..9],
                [undefined, odd("undefined"), odd("a function"), odd("NaN")],
                "{runtime:?}"
            );
            let kept =
                r#"["NaN",{"Infinity":null,"text":"\\ud800 \u{1f600}"}]"#.replace("\\u{1f600}", "\u{1f600}");
            assert_eq!(done.kept["kept"], kept, "{runtime:?}");
        } else {
            assert_eq!(
                (done.kept["big"].as_str(), done.kept["kept"].as_str()),
                ("12345678901234567890123", r#"["NaN",{"Infinity":null}]"#)
            );
        }
    }
}

#[tokio::test]
async fn what_main_returns_is_held_to_the_same_rule() {
    let bench = Bench::new();
    for (runtime, entry, script) in scripts() {
        let values: &[(&str, &str)] = match runtime {
            Runtime::Python if script.contains("await") => continue,
            Runtime::Python => &[
                ("def main():\n  return [float('nan')]\n", "it holds NaN"),
                ("def main():\n  return [{'null': 1}, {None: 1}]\n", "it holds a key that is None"),
            ],
            Runtime::Ruby => &[
                ("def main = [Float::NAN]\n", "it holds NaN"),
                ("def main = [{ '' => 1 }, { nil => 1 }]\n", "it holds a key that is nil"),
                ("def main = { a: proc {} }\n", "it holds an object of Proc"),
            ],
            _ => &[
                ("export default () => [NaN];", "it holds NaN"),
                ("export default () => [1, undefined];", "it holds undefined"),
                ("export default () => [1, new Date(NaN)];", "it holds an invalid date"),
                ("export default () => ({ a: [{ f() {} }] });", "it holds a function"),
                ("export default () => ({ s: Symbol('s') });", "it holds a symbol"),
                ("export default () => ({ m: new Map([[1, 2]]) });", "it holds a Map"),
                ("export default () => [new Set([1])];", "it holds a Set"),
            ],
        };
        for (script, why) in values {
            let error = bench.script(runtime.clone(), entry, script).run().await.exit.error.unwrap();
            assert!(
                error.ends_with(&format!("what main returned cannot be written as JSON: {why}")),
                "{runtime:?}: {error}"
            );
        }
    }
}

#[tokio::test]
async fn what_has_a_word_in_json_is_written_as_ever() {
    let bench = Bench::new();
    let date = r#"{"d":"2020-01-01T00:00:00.000Z","own":null}"#;
    for (runtime, entry, script) in scripts() {
        let (script, written) = match runtime {
            Runtime::Python if script.contains("await") => continue,
            Runtime::Python => (
                "def main():\n  return [{'null': None, 1: [2]}, 'x \"null\":']\n",
                r#"[{"null":null,"1":[2]},"x \"null\":"]"#,
            ),
            Runtime::Ruby => {
                ("def main = [{ '' => nil, a: :b, 1 => '#<x>' }]\n", r##"[{"":null,"a":"b","1":"#<x>"}]"##)
            }
            _ => (
                "export default () => ({ d: new Date(Date.UTC(2020, 0)), own: { toJSON: () => null }, u: undefined });",
                date,
            ),
        };
        let done = bench.script(runtime.clone(), entry, script).run().await;
        assert_eq!(done.exit.output.as_deref(), Some(written), "{runtime:?}");
    }
}

#[tokio::test]
async fn many_calls_at_once_and_much_log_beside_them_go_through() {
    let bench = Bench::new();
    let javascript = "export default async ({ kv, log }) => {\n  const big = 'x'.repeat(200_000);\n  const calls = [];\n  \
                      for (let n = 0; n < 100; n++) { calls.push(kv.set(`k${n}`, n % 10 ? n : big)); log.info(big); }\n  \
                      for (let n = 0; n < 100; n++) { calls.push(kv.get(`k${n}`)); log.info(big); }\n  \
                      const all = await Promise.all(calls);\n  kv.set('last', 1);\n  return all.slice(100).filter((value, n) => value === (n % 10 ? n : big)).length;\n};\n";
    let threads = "import threading\ndef main(kv, log):\n  big = 'x' * 200000\n  good = []\n  def work(m):\n    for n in range(m, 100, 10):\n      \
                   kv.set('k%d' % n, n if n % 10 else big)\n      log.info(big)\n      good.append(kv.get('k%d' % n) == (n if n % 10 else big))\n  \
                   all = [threading.Thread(target=work, args=(m,)) for m in range(10)]\n  [one.start() for one in all]\n  [one.join() for one in all]\n  \
                   kv.set('last', 1)\n  return sum(good)\n";
    let gather = "import asyncio\nasync def main(kv, log):\n  big = 'x' * 200000\n  async def work(n):\n    await kv.set('k%d' % n, n if n % 10 else big)\n    \
                  log.info(big)\n    return await kv.get('k%d' % n) == (n if n % 10 else big)\n  good = await asyncio.gather(*[work(n) for n in range(100)])\n  \
                  await kv.set('last', 1)\n  return sum(good)\n";
    let ruby = "def main(kv:, log:)\n  big = 'x' * 200_000\n  good = (0...10).map do |m|\n    Thread.new do\n      (m...100).step(10).count do |n|\n        \
                kv.set(\"k#{n}\", n % 10 == 0 ? big : n)\n        log.info(big)\n        kv.get(\"k#{n}\") == (n % 10 == 0 ? big : n)\n      end\n    end\n  end\n  \
                kv.set('last', 1)\n  good.sum(&:value)\nend\n";
    for (runtime, entry, script) in scripts() {
        let script = match runtime {
            Runtime::Python if script.contains("async") => gather,
            Runtime::Python => threads,
            Runtime::Ruby => ruby,
            _ => javascript,
        };
        let done = bench.script(runtime.clone(), entry, script).run().await;
        assert_eq!(done.well(), json!(100), "{runtime:?}");
        assert_eq!(done.kept.len(), 101, "{runtime:?}: what is not waited for is kept as well");
    }
}

#[tokio::test]
async fn another_process_of_the_script_is_refused() {
    if !has("python3") {
        return;
    }
    let bench = Bench::new();
    let script = "import os\ndef main(kv, log):\n  kv.set('a', 1)\n  child = os.fork()\n  if child == 0:\n    try:\n      kv.get('a')\n    \
                  except RuntimeError as error:\n      os.write(2, str(error).encode())\n    os._exit(0)\n  os.waitpid(child, 0)\n  return kv.get('a')\n";
    let done = bench.python(script).run().await;
    assert_eq!(done.well(), json!(1));
    assert!(done.log[0].1.contains("only the process that kindling started"), "{:?}", done.log);
}

#[tokio::test]
async fn a_script_that_writes_nonsense_or_dies_harms_only_itself() {
    if !has("python3") {
        return;
    }
    let bench = Bench::with_short_grace();
    // No key, a length beyond the payload, an unknown letter: each is answered, and the run goes on.
    let script = "import os\ndef main(kv):\n  said = []\n  for payload in [b'', b'g\\0\\0\\0\\xff', b'x\\0\\0\\0\\1a']:\n    \
                  os.write(3, b'K' + len(payload).to_bytes(4, 'big') + payload)\n    head = os.read(3, 5)\n    said.append(os.read(3, int.from_bytes(head[1:], 'big')).decode())\n  \
                  return said + [kv.get('a')]\n";
    let why = "kv: this is no request of a shim";
    assert_eq!(bench.python(script).run().await.well(), json!([why, why, why, null]));
    // Half a request, and the end.
    let script =
        "import os\ndef main(kv):\n  kv.set('a', 1)\n  os.write(3, b'K\\0\\0\\1\\0s')\n  os._exit(3)\n";
    let done = bench.python(script).run().await;
    assert_eq!((done.exit.code, done.kept.len()), (Some(3), 1));
    // A whole one, and the end: it is done although nobody hears of it.
    let script =
        "import os\ndef main(kv):\n  os.write(3, b'K\\0\\0\\0\\x07s\\0\\0\\0\\1a5')\n  os._exit(3)\n";
    let done = bench.python(script).run().await;
    assert_eq!((done.exit.code, done.kept.get("a").map(String::as_str)), (Some(3), Some("5")));
    // Requests without end of which no answer is read: the script is stalled, and ended in its time.
    let script = "import os\ndef main(kv):\n  kv.set('a', 'x' * 100000)\n  print('on')\n  while True: os.write(3, b'K\\0\\0\\0\\6g\\0\\0\\0\\1a')\n";
    let mut started = bench.python(script).timeout(std::time::Duration::from_secs(2)).start().await.unwrap();
    let large = format!("\"{}\"", "x".repeat(100_000));
    let keeper = async {
        while let Some(call) = started.kv.recv().await {
            let _ = call.answer.send(Ok(kindling::model::kv::KvAnswer::Value(Some(large.clone()))));
        }
    };
    super::bench::bound(keeper).await;
    assert_eq!(line(&mut started).await, "on");
    assert!(finish(started).await.exit.timed_out);
}
