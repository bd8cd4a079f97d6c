//! Programs that are slow, loud, wrong or dead.

use std::time::{Duration, Instant};

use super::{BY_LENGTH, Bench, ask, has_ended, lengths, told};

const LONG: Duration = Duration::from_secs(60);

#[test]
fn ten_lines_of_python_judge_and_are_started_once() {
    let counting = format!("open('starts', 'a').write('x\\n')\n{BY_LENGTH}");
    let bench = Bench::new(&counting);
    let program = bench.program(LONG);
    assert_eq!(bench.lines("starts").len(), 0, "not before it is asked");
    for count in [1, 7, 0, 300] {
        assert_eq!(ask(&program, count).unwrap(), lengths(count));
    }
    assert_eq!(bench.lines("starts").len(), 1);
}

#[test]
fn a_program_may_gather_a_batch_and_answer_by_id_in_any_order() {
    let bench = Bench::new(
        r#"
import json, sys
batch = []
for line in sys.stdin:
    batch.append(json.loads(line))
    if batch[-1]["left"] == 0:
        for asked in reversed(batch):
            print(json.dumps({"id": asked["id"], "reward": len(asked["response"])}))
        batch = []
"#,
    );
    let program = bench.program(LONG);
    assert_eq!(ask(&program, 50).unwrap(), lengths(50));
    assert_eq!(ask(&program, 3).unwrap(), lengths(3));
}

/// 8 MB to stderr, and 4 MB of responses that are all read before the first answer.
#[test]
fn full_pipes_hold_nothing_up() {
    let bench = Bench::new(
        r#"
import json, sys
batch = []
for line in sys.stdin:
    batch.append(json.loads(line))
    print("o" * 4000, file=sys.stderr)
    if batch[-1]["left"] == 0:
        for asked in batch:
            print(len(asked["response"]))
"#,
    );
    assert_eq!(ask(&bench.program(LONG), 2000).unwrap(), lengths(2000));
}

#[test]
fn a_program_that_cannot_start_or_dies_at_once_is_told_with_its_last_words() {
    let bench = Bench::new("import sys\nopen('starts', 'a').write('x\\n')\nsys.exit('no weights')");
    let error = told(&bench.program(LONG), 3);
    assert!(
        error.starts_with(
            "judge `gold`: the program `python3 reward.py` ended (exit status: 1) before it had \
             judged `r0` and 2 more; its last words:\n  no weights\n\nhint: "
        ),
        "{error}"
    );
    assert_eq!(bench.lines("starts").len(), 2, "it was started again, once");
    let error = told(&bench.started_by(&["./judge"], LONG), 1);
    assert!(error.contains("the program `./judge` cannot be started in "), "{error}");
}

/// The answers from before the death are kept, and the others asked for once more.
#[test]
fn a_program_that_dies_once_loses_nothing() {
    let bench = Bench::new(
        r#"
import json, os, sys
first = not os.path.exists("asked")
for number, line in enumerate(sys.stdin):
    asked = json.loads(line)
    if first and number == 5:
        os.kill(os.getpid(), 9)
    open("asked", "a").write(asked["id"] + "\n")
    print(len(asked["response"]))
"#,
    );
    let program = bench.program(LONG);
    assert_eq!(ask(&program, 20).unwrap(), lengths(20));
    let all: Vec<String> = (0..20).map(|i| format!("r{i}")).collect();
    assert_eq!(bench.lines("asked"), all, "each of them is judged once");
}

#[test]
fn a_program_that_dies_twice_ends_the_stage() {
    let bench = Bench::new(
        r#"
import json, sys
for number, line in enumerate(sys.stdin):
    if number == 4:
        raise ValueError("out of luck")
    print(len(json.loads(line)["response"]))
"#,
    );
    let program = bench.program(LONG);
    assert_eq!(ask(&program, 6).unwrap(), lengths(6), "once");
    let error = told(&program, 6);
    assert!(
        error.contains("ended (exit status: 1) before it had judged `r2` and 3 more;"),
        "{error}"
    );
    assert!(error.contains("\n  ValueError: out of luck\n\nhint: "), "{error}");
}

#[test]
fn lines_that_are_no_rewards_are_named() {
    for (line, words) in [
        ("float('nan')", "wrote \"nan\" for `r2`, which is no finite number"),
        ("'-inf'", "wrote \"-inf\" for `r2`, which is no finite number"),
        ("'hello there'", "wrote \"hello there\" for `r2`, which is no finite number"),
        ("''", "wrote \"\" for `r2`, which is no finite number"),
        ("{'id': 'r2'}", "wrote \"{'id': 'r2'}\" for `r2`"),
        ("json.dumps({'id': 'r9', 'reward': 1})", "but it was not asked about `r9`"),
        ("json.dumps({'id': 'r1', 'reward': 1})", "but had judged `r1` before"),
        ("json.dumps({'id': 'r3', 'reward': float('nan')})", "which is no finite number"),
        ("'x' * 100000", "which is no finite number"),
    ] {
        let bench = Bench::new(&format!(
            "import json, sys\nfor line in sys.stdin:\n    asked = json.loads(line)\n    \
             print({line} if asked['id'] == 'r2' else len(asked['response']))\n"
        ));
        let error = told(&bench.program(LONG), 5);
        assert!(error.starts_with("judge `gold`: the program `python3 reward.py` "), "{error}");
        assert!(error.contains(words), "{line}: {error}");
    }
}

#[test]
fn too_few_lines_are_a_silence_and_too_many_are_told() {
    let every_other = "import json, sys\nfor n, line in enumerate(sys.stdin):\n    \
                       if n % 2 == 0: print(len(json.loads(line)['response']))\n";
    let bench = Bench::new(every_other);
    let error = told(&bench.program(Duration::from_secs(1)), 6);
    assert!(
        error.contains("wrote nothing for 1 s and has yet to judge `r3` and 2 more"),
        "{error}"
    );
    let twice = "import json, sys\nfor line in sys.stdin:\n    \
                 n = len(json.loads(line)['response']); print(f'{n}\\n{n}')\n";
    let bench = Bench::new(twice);
    let program = bench.program(LONG);
    // Whether the second line is there by the end of the first group is a matter of chance.
    let error = match ask(&program, 1) {
        Err(error) => error.to_string(),
        Ok(_) => {
            std::thread::sleep(Duration::from_millis(300));
            told(&program, 1)
        }
    };
    assert!(error.contains("wrote the line \"1\" when nothing was asked"), "{error}");
}

/// Neither the program nor what it started is left behind.
#[test]
fn a_program_that_sleeps_or_is_done_is_ended_with_its_children() {
    let sleepy = "import os, sys, time\nopen('pids', 'a').write(f'{os.getpid()}\\n')\n\
                  time.sleep(1000)\n";
    let bench = Bench::new(sleepy);
    let words = ["sh", "-c", "sleep 1000 & echo $! >> pids; python3 reward.py; true"];
    let program = bench.started_by(&words, Duration::from_secs(1));
    let started = Instant::now();
    let error = told(&program, 1);
    assert!(error.contains("wrote nothing for 1 s and has yet to judge `r0`\n\nhint: "), "{error}");
    assert!(started.elapsed() < Duration::from_secs(20));
    let pids = bench.lines("pids");
    assert_eq!(pids.len(), 2);
    assert!(pids.iter().all(|pid| has_ended(pid)), "{pids:?}");

    let bench = Bench::new(&format!(
        "import os\nopen('pids', 'a').write(f'{{os.getpid()}}\\n')\n{BY_LENGTH}\n\
         open('pids', 'a').write('end\\n')"
    ));
    let program = bench.program(LONG);
    ask(&program, 2).unwrap();
    let pids = bench.lines("pids");
    assert_eq!(pids.len(), 1);
    drop(program);
    assert!(has_ended(&pids[0]));
    assert_eq!(bench.lines("pids")[1], "end", "one that reads to the end ends by itself");
}
