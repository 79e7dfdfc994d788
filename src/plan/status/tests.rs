use super::*;

fn live(key: &str) -> UnitFacts<'_> {
    UnitFacts { key, is_live: true, ..UnitFacts::default() }
}

fn other(key: &str) -> UnitFacts<'_> {
    UnitFacts { key, ..UnitFacts::default() }
}

fn facts<'a>(restless: &[UnitFacts<'a>]) -> Facts<'a> {
    Facts { units: 3, is_deployed: true, restless: restless.to_vec(), ..Facts::default() }
}

/// `STATE: SUMMARY`, in brackets where it only ends what was pending.
fn told(facts: &Facts<'_>) -> String {
    let line = |verdict: Verdict| format!("{}: {}", verdict.state.as_str(), verdict.summary);
    match decide(facts) {
        None => "nothing".into(),
        Some(Tell::Say(verdict)) => line(verdict),
        Some(Tell::End(verdict)) => format!("[{}]", line(verdict)),
    }
}

#[test]
fn a_commit_is_called_live_only_when_all_of_it_is() {
    assert_eq!(told(&facts(&[])), "success: 3 units live");
    assert_eq!(told(&Facts { units: 1, ..facts(&[live("d")]) }), "success: 1 unit live");
    assert_eq!(told(&Facts { units: 0, ..facts(&[]) }), "success: no units");
    assert_eq!(told(&Facts { is_deployed: false, ..facts(&[]) }), "nothing");
    assert_eq!(told(&facts(&[other("a")])), "nothing", "it waits, and a pass that follows says for what");
    assert_eq!(told(&Facts { is_suspended: true, ..facts(&[]) }), "success: 3 units live");
}

#[test]
fn what_a_person_or_a_unit_keeps_back_is_said_with_the_first_key() {
    let unit = other("jobs/a");
    let cases = [
        (
            UnitFacts { is_broken: true, is_live: true, ..unit },
            "failure: 2 of 3 units live, 1 broken (jobs/a)",
        ),
        (UnitFacts { has_failed: true, ..unit }, "failure: 2 of 3 units live, 1 failed (jobs/a)"),
        (
            UnitFacts { has_failed: true, is_busy: true, ..unit },
            "failure: 2 of 3 units live, 1 failed (jobs/a)",
        ),
        (
            UnitFacts { is_live: true, is_unhealthy: true, ..unit },
            "failure: 2 of 3 units live, 1 unhealthy (jobs/a)",
        ),
        (UnitFacts { is_held: true, ..unit }, "failure: 2 of 3 units live, 1 held (jobs/a)"),
        (UnitFacts { is_suspended: true, ..unit }, "failure: 2 of 3 units live, 1 suspended (jobs/a)"),
        (UnitFacts { is_busy: true, ..unit }, "pending: 2 of 3 units live, 1 under way (jobs/a)"),
        (
            UnitFacts { is_busy: true, is_live: true, ..unit },
            "pending: 2 of 3 units live, 1 under way (jobs/a)",
        ),
        // Stopped as it is, it is what the commit asks for.
        (UnitFacts { is_suspended: true, is_live: true, ..unit }, "success: 3 units live"),
        (UnitFacts { is_held: true, is_live: true, ..unit }, "success: 3 units live"),
    ];
    for (unit, expected) in cases {
        assert_eq!(told(&facts(&[unit])), expected, "{unit:?}");
    }
    let all = [
        UnitFacts { is_broken: true, ..other("a") },
        UnitFacts { is_broken: true, ..other("b") },
        UnitFacts { is_busy: true, ..other("c") },
    ];
    assert_eq!(told(&facts(&all)), "failure: 0 of 3 units live, 2 broken (a), 1 under way (c)");
    let held = [UnitFacts { is_held: true, ..other("a") }, UnitFacts { is_busy: true, ..other("b") }];
    assert_eq!(told(&facts(&held)), "pending: 1 of 3 units live, 1 held (a), 1 under way (b)");
}

#[test]
fn commits_that_do_not_run_are_never_called_live() {
    let dev = Facts { is_dev: true, ..facts(&[]) };
    assert_eq!(told(&dev), "[error: dev mode was switched on before it was live]");
    let suspended = Facts { is_suspended: true, is_deployed: false, ..facts(&[]) };
    assert_eq!(told(&suspended), "[error: its source was suspended before it was live]");
    let stops = [
        (Stop::Guard("RemovalGuard"), "failure: not deployed: a person has to agree (RemovalGuard)"),
        (Stop::Broken, "failure: the source as a whole has a problem"),
        (Stop::Internal("StoreUnwritable"), "error: kindling could not deploy it (StoreUnwritable)"),
    ];
    for (stop, expected) in stops {
        assert_eq!(told(&Facts { stop: Some(stop), ..facts(&[]) }), expected);
    }
}

/// Over every combination: success is said only where nothing speaks against it.
#[test]
fn no_combination_is_called_live_by_mistake() {
    for bits in 0_u32..1 << 10 {
        let bit = |at: u32| bits & (1 << at) != 0;
        let unit = UnitFacts {
            key: "a",
            is_broken: bit(0),
            has_failed: bit(1),
            is_busy: bit(2),
            is_live: bit(3),
            is_unhealthy: bit(4),
            is_held: bit(5),
            is_suspended: bit(6),
        };
        let facts = Facts { is_dev: bit(7), is_suspended: bit(8), is_deployed: bit(9), ..facts(&[unit]) };
        let is_right = facts.is_deployed
            && !facts.is_dev
            && unit.is_live
            && !(unit.is_broken || unit.has_failed || unit.is_busy || unit.is_unhealthy);
        assert_eq!(told(&facts).starts_with("success"), is_right, "{facts:?}");
    }
}

#[test]
fn phases_are_told_in_milliseconds() {
    let phases = [("fetch", 12.4), ("decide", 0.24), ("act", 12_345.0)];
    let phases: Vec<_> = phases.iter().map(|(name, ms)| ((*name).to_owned(), *ms)).collect();
    assert_eq!(times(&phases), "fetch 12 ms, decide 0.2 ms, act 12.3 s");
    assert_eq!(times(&[]), "");
    assert_eq!(begins(1).summary, "1 unit to deploy");
    assert_eq!(superseded("abc12345").summary, "superseded by abc12345 before it was live");
}

#[test]
fn a_long_key_is_cut_before_a_count_is() {
    let long = format!("{}/end", "k".repeat(300));
    let broken = UnitFacts { is_broken: true, ..other(&long) };
    let told_of = |units: &[UnitFacts<'_>]| {
        let Some(Tell::Say(verdict)) = decide(&facts(units)) else { return String::new() };
        assert_eq!(verdict.description(), verdict.summary);
        verdict.summary
    };
    let cut = format!("...{}/end", "k".repeat(53));
    assert_eq!(told_of(&[broken]), format!("2 of 3 units live, 1 broken ({cut})"));
    let failed = UnitFacts { has_failed: true, ..other(&long) };
    let held = UnitFacts { is_held: true, ..other(&long) };
    let cut = format!("...{}/end", "k".repeat(13));
    let expected = format!("0 of 3 units live, 1 broken ({cut}), 1 failed ({cut}), 1 held ({cut})");
    assert_eq!(told_of(&[broken, failed, held]), expected);
    let unhealthy = UnitFacts { is_live: true, is_unhealthy: true, ..other(&long) };
    let suspended = UnitFacts { is_suspended: true, ..other(&long) };
    let all = [broken, failed, unhealthy, held, suspended, other(&long)];
    let expected = "0 of 3 units live, 1 broken, 1 failed, 1 unhealthy, 1 held, 1 suspended, 1 waiting";
    assert_eq!(told_of(&all), expected);
}
