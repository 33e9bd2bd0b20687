//! docker/alerts.yml and docker/grafana.json: Prometheus and Grafana must understand them.

use std::{path::PathBuf, process::Command};

use serde_json::Value;

use crate::support::require_program;

fn file(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "docker", name].iter().collect()
}

#[test]
fn promtool_accepts_the_rules_and_they_fire_when_they_should() {
    let Some(promtool) = require_program("promtool") else {
        return;
    };
    for (arguments, name) in [
        (&["check", "rules", "--lint-fatal"][..], "alerts.yml"),
        (&["test", "rules"], "alerts_test.yml"),
    ] {
        let output = Command::new(&promtool)
            .args(arguments)
            .arg(file(name))
            .output()
            .unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(output.status.success() && said.contains("SUCCESS"), "{name}: {said}");
    }
}

/// Every rule has a test in which it fires.
#[test]
fn every_rule_is_tested() {
    let (rules, tests) = (
        std::fs::read_to_string(file("alerts.yml")).unwrap(),
        std::fs::read_to_string(file("alerts_test.yml")).unwrap(),
    );
    let names: Vec<&str> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert!(names.len() > 8, "{names:?}");
    for name in names {
        assert!(
            tests.contains(&format!("alertname: {name}\n")),
            "no test lets {name} fire"
        );
    }
}

/// The expressions of the dashboard, by panel.
fn expressions(dashboard: &Value) -> Vec<(String, String)> {
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().filter(|panel| panel["type"] != "row").flat_map(|panel| {
        let targets = panel["targets"]
            .as_array()
            .unwrap_or_else(|| panic!("no targets: {panel}"));
        assert!(!targets.is_empty(), "{panel}");
        targets.iter().map(|target| {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            (text(&panel["title"]), text(&target["expr"]))
        })
    });
    targets.collect()
}

/// Prometheus understands each expression of the dashboard.
#[test]
fn promtool_understands_the_dashboard() {
    let Some(promtool) = require_program("promtool") else {
        return;
    };
    let dashboard = std::fs::read_to_string(file("grafana.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let mut rules = "groups:\n- name: dashboard\n  rules:\n".to_owned();
    for (number, (title, expression)) in expressions(&dashboard).iter().enumerate() {
        // Grafana replaces these variables.
        let expression = expression
            .replace("$__rate_interval", "5m")
            .replace("$__range", "1h")
            .replace("$instance", ".*");
        assert!(!expression.contains('$'), "{title}: {expression}");
        rules.push_str(&format!("  - record: panel:{number}\n    expr: {expression:?}\n"));
    }
    let directory = tempfile::tempdir().unwrap();
    let written = directory.path().join("dashboard.yml");
    std::fs::write(&written, rules).unwrap();
    let output = Command::new(&promtool)
        .args(["check", "rules"])
        .arg(&written)
        .output()
        .unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{said}");
}
