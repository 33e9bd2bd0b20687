//! The deployments in docker/: each file is one that its program understands, and what they tell of each other is so: names,
//! ports, paths of probes, files of secrets.
//!
//! A program that is missing skips its test loudly; with `POPGATE_TESTS_REQUIRE_ALL=1`, which `tests/run` sets, the test fails
//! instead. Helm and Docker Compose may be missing all the same: Debian 12 has no Helm.

#![allow(clippy::unwrap_used)] // a panic is how a test fails

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use popgate::config::{Config, keys_as_json};
use serde_json::Value;

/// What the gateway still needs after `drain_seconds`.
const TO_FINISH: i64 = 7;

fn docker(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docker").join(path)
}

fn text(path: &str) -> String {
    fs::read_to_string(docker(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn skip(what: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    eprintln!("\n!! SKIPPED {test}: {what}\n");
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
}

/// A program without which the test is skipped, or fails.
fn require_program(name: &str) -> Option<PathBuf> {
    let found = find_program(name);
    if found.is_none() {
        missing(&format!("{name} is not installed"));
    }
    found
}

fn missing(what: &str) {
    assert!(std::env::var_os("POPGATE_TESTS_REQUIRE_ALL").is_none(), "{what}");
    skip(what);
}

fn said(output: &Output) -> String {
    [&output.stdout[..], &output.stderr]
        .map(String::from_utf8_lossy)
        .concat()
}

// YAML

/// The documents of `yaml`; `None` if there is no Python that reads it.
fn documents(yaml: &str) -> Option<Vec<Value>> {
    const READ: &str = "import json, sys, yaml; json.dump([d for d in yaml.safe_load_all(sys.stdin) if d], sys.stdout)";
    let reads_yaml = |python: &&&str| {
        let tried = Command::new(python).args(["-c", "import yaml"]).output();
        tried.is_ok_and(|output| output.status.success())
    };
    let Some(python) = ["python3", "/usr/bin/python3"].iter().find(reads_yaml) else {
        missing("Python has no PyYAML (Debian: python3-yaml)");
        return None;
    };
    let mut child = Command::new(python)
        .args(["-c", READ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let written = child.stdin.take().unwrap().write_all(yaml.as_bytes());
    let output = child.wait_with_output().unwrap();
    assert!(
        written.is_ok() && output.status.success(),
        "{}\n{yaml}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

fn document(path: &str) -> Option<Value> {
    let mut documents = documents(&text(path))?;
    assert_eq!(documents.len(), 1, "{path}");
    documents.pop()
}

/// Of a list, or of a map: what is in it.
fn members(value: &Value) -> Vec<Value> {
    match value {
        Value::Array(list) => list.clone(),
        Value::Object(map) => map.values().cloned().collect(),
        _ => Vec::new(),
    }
}

fn names(value: &Value) -> BTreeSet<String> {
    match value {
        Value::Object(map) => map.keys().cloned().collect(),
        _ => members(value).iter().map(string).collect(),
    }
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

#[test]
fn all_yaml_is_read() {
    let mut directories = vec![docker("")];
    let mut seen = 0;
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                // Those are not YAML before Helm has filled them in.
                if path.file_name() != Some(OsStr::new("templates")) {
                    directories.push(path);
                }
            } else if matches!(path.extension().and_then(OsStr::to_str), Some("yml" | "yaml")) {
                seen += 1;
                let Some(documents) = documents(&fs::read_to_string(&path).unwrap()) else {
                    return;
                };
                assert!(!documents.is_empty(), "{}", path.display());
            }
        }
    }
    assert!(seen >= 10, "only {seen} files seen");
}

// gateway.toml

/// A configuration with its secrets in files of their own.
struct Gateway {
    text: String,
    table: toml::Table,
    config: Config,
}

impl Gateway {
    fn parse(text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut local = text.to_owned();
        for place in ["/run/secrets/", "/run/tls/"] {
            for file in files_in(text, place) {
                fs::write(
                    directory.path().join(&file),
                    format!("{}\n", "0123456789abcdef".repeat(2)),
                )
                .unwrap();
            }
            local = local.replace(place, "");
        }
        Self {
            config: Config::parse(&local, directory.path()).unwrap_or_else(|error| panic!("{text}\n{error}")),
            table: text.parse().unwrap(),
            text: text.to_owned(),
        }
    }

    fn read(path: &str) -> Self {
        Self::parse(&text(path))
    }

    fn state(&self, key: &str) -> Option<&toml::Value> {
        self.table["state"].get(key)
    }

    fn url(&self) -> &str {
        self.state("url").and_then(toml::Value::as_str).unwrap()
    }

    /// The ports of all listeners and of the page.
    fn ports(&self) -> BTreeSet<u16> {
        let listeners = self.config.listeners.iter().map(|listener| listener.address.port());
        listeners.chain([self.web()]).collect()
    }

    fn web(&self) -> u16 {
        let address = self.config.web.as_ref().unwrap().address;
        assert!(address.ip().is_unspecified(), "probes come from elsewhere: {address}");
        address.port()
    }

    fn drain(&self) -> i64 {
        i64::try_from(self.config.limits.drain.as_secs()).unwrap()
    }
}

/// The files that `text` names in a directory.
fn files_in(text: &str, directory: &str) -> BTreeSet<String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let files = lines.flat_map(|line| {
        line.split(['"', ',', ' '])
            .filter_map(|part| part.strip_prefix(directory))
    });
    files.map(str::to_owned).collect()
}

#[test]
fn configurations_are_valid() {
    for path in [
        "gateway.demo.toml",
        "etc/gateway.toml",
        "scale/gateway.toml",
        "k8s/gateway.toml",
    ] {
        assert!(!Gateway::read(path).config.upstreams.is_empty(), "{path}");
    }
}

/// Probes that are asked for are there.
fn assert_is_probe(path: &str) {
    let routes = include_str!("../src/web/probes.rs");
    assert!(routes.contains(&format!("\"{{prefix}}{path}\"")), "{path}");
}

// Docker Compose

/// Each file and directory of this machine that a service names, each secret, each network, each volume. The comments at the begin
/// of `text` name those that people make themselves.
fn assert_names_what_is_there(compose: &Value, text: &str) {
    let is_made = |path: &str| {
        let mut comments = text.lines().take_while(|line| line.starts_with('#'));
        comments.any(|line| line.contains(&format!(" {}/", path.trim_start_matches("./"))))
    };
    let is_there = |path: &str| assert!(docker(path).exists() || is_made(path), "{path} is not there");
    for (name, service) in compose["services"].as_object().unwrap() {
        for volume in members(&service["volumes"]) {
            let volume = string(&volume);
            let source = volume.split(':').next().unwrap();
            if source.starts_with('.') {
                is_there(source);
            } else {
                assert!(compose["volumes"].get(source).is_some(), "{name}: volume {source}");
            }
        }
        for (list, of) in [
            ("secrets", "secrets"),
            ("networks", "networks"),
            ("depends_on", "services"),
        ] {
            for used in names(&service[list]) {
                assert!(compose[of].get(&used).is_some(), "{name}: {list}: {used}");
            }
        }
        match &service["build"] {
            Value::String(context) => is_there(context),
            Value::Object(build) => {
                let (context, file) = (string(&build["context"]), string(&build["dockerfile"]));
                is_there(&format!("{context}/{file}"));
            }
            _ => assert!(service["image"].is_string(), "{name}"),
        }
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(
            names(&service["cap_drop"]),
            BTreeSet::from(["ALL".to_owned()]),
            "{name}"
        );
    }
}

/// The seconds in a text such as `30s`.
fn seconds(value: &Value) -> i64 {
    string(value).strip_suffix('s').unwrap().parse().unwrap()
}

#[test]
fn compose_names_what_is_there() {
    for (path, gateway, file) in [
        ("compose.yml", "gateway", "etc/gateway.toml"),
        ("compose.demo.yml", "gateway", "gateway.demo.toml"),
        ("compose.scale.yml", "popgate-a", "scale/gateway.toml"),
    ] {
        let Some(compose) = document(path) else { return };
        assert_names_what_is_there(&compose, &text(path));
        let grace = seconds(&compose["services"][gateway]["stop_grace_period"]);
        assert!(grace > Gateway::read(file).drain() + TO_FINISH, "{path}: {grace}");
    }
}

/// The words of each line of a file without its comments.
fn lines(text: &str) -> Vec<Vec<&str>> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    lines.map(|line| line.split_whitespace().collect()).collect()
}

/// The words behind `begin`, of each line that begins so.
fn settings<'a>(lines: &[Vec<&'a str>], begin: &[&str]) -> Vec<Vec<&'a str>> {
    let of_kind = lines.iter().filter(|line| line.starts_with(begin));
    of_kind.map(|line| line[begin.len()..].to_vec()).collect()
}

fn setting<'a>(lines: &[Vec<&'a str>], begin: &[&str]) -> Vec<&'a str> {
    let mut all = settings(lines, begin);
    assert_eq!(all.len(), 1, "{begin:?}: {all:?}");
    all.remove(0)
}

#[test]
fn the_parts_of_compose_scale_agree() {
    let Some(compose) = document("compose.scale.yml") else {
        return;
    };
    let services = names(&compose["services"]);
    let with = |begin: &str| {
        let of_kind = services.iter().filter(|name| name.starts_with(begin));
        of_kind.cloned().collect::<BTreeSet<String>>()
    };
    let (gateways, servers, sentinels) = (with("popgate-"), with("valkey-"), with("sentinel-"));
    assert_eq!([gateways.len(), servers.len(), sentinels.len()], [3, 3, 3]);
    let gateway = Gateway::read("scale/gateway.toml");
    for name in &gateways {
        assert_eq!(compose["services"][name]["hostname"], name.as_str());
        let secrets = names(&compose["services"][name]["secrets"]);
        assert_eq!(secrets, files_in(&gateway.text, "/run/secrets/"), "{name}");
    }

    // HAProxy reaches all gateways at the port where they listen, and may send PROXY headers.
    let file = text("scale/haproxy.cfg");
    let haproxy = lines(&file);
    let listener = &gateway.config.listeners[0];
    let reached = settings(&haproxy, &["server"]).into_iter().map(|server| {
        let (host, port) = server[1].split_once(':').unwrap();
        assert_eq!(port.parse(), Ok(listener.address.port()), "{server:?}");
        host.to_owned()
    });
    assert_eq!(reached.collect::<BTreeSet<_>>(), gateways);
    let defaults = settings(&haproxy, &["default-server"]).concat();
    assert!(defaults.contains(&"send-proxy-v2"), "{defaults:?}");
    let port = defaults.iter().position(|word| *word == "port").unwrap();
    assert_eq!(defaults[port + 1].parse(), Ok(gateway.web()));
    let check = setting(&haproxy, &["option", "httpchk"]);
    assert_eq!(check[0], "GET");
    assert_is_probe(check[1]);
    let address: std::net::IpAddr = string(&compose["services"]["haproxy"]["networks"]["devices"]["ipv4_address"])
        .parse()
        .unwrap();
    let balancers = &listener.proxy_protocol_from;
    assert!(balancers.iter().any(|network| network.contains(&address)), "{address}");
    let devices = &compose["networks"]["devices"]["ipam"]["config"][0];
    let network = |key: &str| string(&devices[key]).parse::<ipnet::IpNet>().unwrap();
    assert!(network("subnet").contains(&address) && !network("ip_range").contains(&address));
    let minutes = setting(&haproxy, &["timeout", "client"])[0].strip_suffix('m').unwrap();
    assert!(minutes.parse::<u64>().unwrap() * 60 > gateway.config.limits.idle.as_secs());
    let bound = setting(&haproxy, &["bind"])[0].strip_prefix(':').unwrap();
    let published = string(&compose["services"]["haproxy"]["ports"][0]);
    assert!(published.ends_with(&format!(":{bound}")), "{published}");

    // The gateways ask the Sentinels for the service that they watch.
    let (hosts, service) = gateway
        .url()
        .strip_prefix("redis+sentinel://")
        .unwrap()
        .split_once('/')
        .unwrap();
    // Servers and Sentinels have addresses of their own, outside of those that others get.
    let state = &compose["networks"]["state"]["ipam"]["config"][0];
    let network = |key: &str| string(&state[key]).parse::<ipnet::IpNet>().unwrap();
    let address = |name: &String| {
        let address = string(&compose["services"][name]["networks"]["state"]["ipv4_address"]);
        let parsed: std::net::IpAddr = address.parse().unwrap();
        assert!(network("subnet").contains(&parsed) && !network("ip_range").contains(&parsed));
        address.to_owned()
    };
    let addresses = |names: &BTreeSet<String>| names.iter().map(address).collect::<BTreeSet<String>>();
    assert_eq!(
        hosts.split(',').map(str::to_owned).collect::<BTreeSet<_>>(),
        addresses(&sentinels)
    );
    assert_eq!(addresses(&servers).len(), 3);
    let file = text("scale/valkey/sentinel.conf");
    let sentinel = lines(&file);
    let watched = setting(&sentinel, &["sentinel", "monitor"]);
    let [name, primary, "6379", "2"] = watched[..] else {
        panic!("{watched:?}")
    };
    assert_eq!(name, service);
    for line in settings(&sentinel, &["sentinel"]) {
        assert_eq!(line[1], service, "{line:?}");
    }
    let failover: u64 = setting(&sentinel, &["sentinel", "down-after-milliseconds", service])[0]
        .parse()
        .unwrap();
    assert!(failover < 5_000, "a login waits for ten seconds");

    // One primary at the first start, and the others its replicas.
    let command = |name: &str| {
        members(&compose["services"][name]["command"])
            .iter()
            .map(string)
            .collect::<Vec<_>>()
    };
    assert!(addresses(&servers).contains(primary));
    for name in &servers {
        let is_primary = address(name) == primary;
        let mut expected = vec!["sh", "/etc/valkey/start", "server"];
        expected.extend((!is_primary).then_some(primary));
        assert_eq!(command(name), expected);
    }
    for name in &sentinels {
        assert_eq!(command(name), ["sh", "/etc/valkey/start", "sentinel"]);
    }
    let file = text("scale/valkey/valkey.conf");
    let valkey = lines(&file);
    assert_eq!(setting(&valkey, &["maxmemory-policy"]), ["noeviction"]);
    let least: usize = setting(&valkey, &["min-replicas-to-write"])[0].parse().unwrap();
    assert!(least < servers.len() - 1, "the loss of one replica stops all writes");
    let confirmed = gateway.state("replicas").and_then(toml::Value::as_integer).unwrap();
    assert!((1..=2).contains(&confirmed));
}

#[test]
fn haproxy_accepts_its_configuration() {
    let Some(haproxy) = require_program("haproxy") else {
        return;
    };
    // As it is, and with what is commented out for TLS.
    let plain = text("scale/haproxy.cfg");
    let (before, tls) = plain.split_once("# frontend pop3s").unwrap();
    let tls = format!("# frontend pop3s{tls}").replace("# ", "").replace("#\n", "\n");
    let directory = tempfile::tempdir().unwrap();
    for text in [plain.clone(), format!("{before}{tls}")] {
        let file = directory.path().join("haproxy.cfg");
        fs::write(&file, &text).unwrap();
        let output = Command::new(&haproxy).args(["-c", "-f"]).arg(&file).output().unwrap();
        let said = said(&output);
        // Nobody knows the gateways' names here.
        let mut complaints = said
            .lines()
            .filter(|line| line.contains("[WARNING]") || line.contains("[ALERT]"));
        let is_of_names = |line: &str| line.contains("could not resolve address 'popgate-");
        assert!(output.status.success() && complaints.all(is_of_names), "{said}\n{text}");
    }
}

#[test]
fn docker_compose_accepts_its_files() {
    let is_there = |program: &str, arguments: &[&str]| {
        let tried = Command::new(program).args(arguments).arg("version").output();
        tried.is_ok_and(|output| output.status.success())
    };
    let (program, arguments) = if is_there("docker", &["compose"]) {
        ("docker", &["compose"][..])
    } else if is_there("docker-compose", &[]) {
        ("docker-compose", &[][..])
    } else {
        return skip("neither 'docker compose' nor 'docker-compose' is installed");
    };
    for path in ["compose.yml", "compose.scale.yml"] {
        let output = Command::new(program)
            .args(arguments)
            .arg("--file")
            .arg(docker(path))
            .args(["config", "--quiet"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{path}: {}", said(&output));
    }
}

/// The script with stand-ins that print the configuration and change it, as Valkey and Sentinel do.
#[cfg(unix)]
#[test]
fn valkey_and_sentinel_keep_what_they_have_written() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().unwrap();
    for program in ["valkey-server", "valkey-sentinel"] {
        let file = directory.path().join(program);
        fs::write(&file, "#!/bin/sh\ncat \"$1\"\necho '# rewritten' >>\"$1\"\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap());
    let start = |place: &Path, arguments: &[&str]| {
        fs::create_dir_all(place).unwrap();
        let output = Command::new("sh")
            .arg(docker("scale/valkey/start"))
            .args(arguments)
            .env("PATH", &path)
            .current_dir(place)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    for (arguments, file, added) in [
        (&["server"][..], "valkey.conf", ""),
        (&["server", "10.0.0.1"], "valkey.conf", "\nreplicaof 10.0.0.1 6379\n"),
        (&["sentinel"], "sentinel.conf", ""),
    ] {
        let place = directory.path().join(arguments.join("-"));
        let first = start(&place, arguments);
        assert_eq!(first, format!("{}{added}", text(&format!("scale/valkey/{file}"))));
        assert_eq!(start(&place, arguments), format!("{first}# rewritten\n"));
    }
}

// Kubernetes

/// The object of this kind; there is one.
fn object<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let mut found = objects.iter().filter(|object| object["kind"] == kind);
    let object = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "several {kind}s");
    object
}

/// Whether all of `selector` is in `labels`.
fn selects(selector: &Value, labels: &Value) -> bool {
    let selector = selector.as_object().unwrap();
    !selector.is_empty() && selector.iter().all(|(name, value)| labels[name] == *value)
}

/// What the objects of a deployment tell of each other, and of the gateway that runs there.
fn assert_deployment_agrees(objects: &[Value], gateway: &Gateway) {
    let deployment = object(objects, "Deployment");
    let pod = &deployment["spec"]["template"];
    let (labels, spec) = (&pod["metadata"]["labels"], &pod["spec"]);
    let container = &spec["containers"][0];
    assert!(selects(&deployment["spec"]["selector"]["matchLabels"], labels));
    let spread = &spec["topologySpreadConstraints"][0];
    assert!(selects(&spread["labelSelector"]["matchLabels"], labels));

    // Ports.
    let ports = members(&container["ports"]);
    let ports = ports
        .iter()
        .map(|port| (string(&port["name"]), port["containerPort"].as_u64().unwrap()));
    let ports: BTreeMap<String, u64> = ports.collect();
    assert_eq!(
        ports.values().copied().collect::<BTreeSet<_>>(),
        gateway.ports().into_iter().map(u64::from).collect()
    );
    assert_eq!(ports["web"], u64::from(gateway.web()));
    for port in ports.values() {
        assert!(*port >= 1024, "a pod may not listen at {port}");
    }
    for (probe, path) in [("readinessProbe", "/readyz"), ("livenessProbe", "/livez")] {
        let asked = &container[probe]["httpGet"];
        assert_eq!((&asked["path"], &asked["port"]), (&path.into(), &"web".into()));
        assert_is_probe(path);
    }
    let service = &object(objects, "Service")["spec"];
    assert!(selects(&service["selector"], labels));
    for port in members(&service["ports"]) {
        let target = string(&port["targetPort"]);
        assert!(ports.contains_key(&target) && target != "web", "{port}");
    }
    let kept = service["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"]
        .as_u64()
        .unwrap();
    assert!(kept >= gateway.config.limits.parked_for.as_secs());
    let disruption = &object(objects, "PodDisruptionBudget")["spec"];
    assert!(selects(&disruption["selector"]["matchLabels"], labels));

    // Stopping.
    let sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_i64().unwrap();
    let grace = spec["terminationGracePeriodSeconds"].as_i64().unwrap();
    assert!(grace >= sleep + gateway.drain() + TO_FINISH, "{grace}");

    // Files.
    let mounts = members(&container["volumeMounts"]);
    let volume = |path: &str| {
        let mount = mounts.iter().find(|mount| mount["mountPath"] == path).unwrap();
        let volumes = members(&spec["volumes"]);
        volumes
            .into_iter()
            .find(|volume| volume["name"] == mount["name"])
            .unwrap()
    };
    let configuration = object(objects, "ConfigMap");
    assert_eq!(
        volume("/etc/popgate")["configMap"]["name"],
        configuration["metadata"]["name"]
    );
    assert!(configuration["data"]["gateway.toml"].is_string());
    let secrets = object(objects, "Secret");
    assert_eq!(
        volume("/run/secrets")["secret"]["secretName"],
        secrets["metadata"]["name"]
    );
    let given = [&secrets["data"], &secrets["stringData"]]
        .map(names)
        .into_iter()
        .flatten()
        .collect();
    assert_eq!(files_in(&gateway.text, "/run/secrets/"), given);
    assert!(volume("/run/tls")["secret"]["secretName"].is_string());
    assert_eq!(
        files_in(&gateway.text, "/run/tls/"),
        BTreeSet::from(["tls.crt", "tls.key"].map(str::to_owned))
    );
    // Files of secrets belong to root: the group may read them.
    assert_eq!(
        spec["securityContext"]["fsGroup"],
        spec["securityContext"]["runAsGroup"]
    );
    for path in ["/run/secrets", "/run/tls"] {
        assert_eq!(volume(path)["secret"]["defaultMode"], 0o440);
    }

    for (name, _) in variables(container) {
        assert!(keys().contains_key(&without_numbers(&name)), "{name} is no key");
    }
    let replica = members(&container["env"])
        .into_iter()
        .find(|variable| variable["name"] == "POPGATE__STATE__REPLICA");
    assert_eq!(replica.unwrap()["valueFrom"]["fieldRef"]["fieldPath"], "metadata.name");
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
    let image = string(&container["image"]);
    assert_eq!(image, concat!("popgate:", env!("CARGO_PKG_VERSION")));
}

/// The variables of a container that have a value in it.
fn variables(container: &Value) -> Vec<(String, String)> {
    let variables = members(&container["env"]);
    let valued = variables.iter().filter(|variable| variable.get("value").is_some());
    valued
        .map(|variable| (string(&variable["name"]), string(&variable["value"])))
        .collect()
}

/// The types of all keys, by their variables.
fn keys() -> BTreeMap<String, String> {
    let keys = members(&keys_as_json());
    keys.iter()
        .map(|key| (string(&key["variable"]), string(&key["type"])))
        .collect()
}

/// The variable without the numbers of entries.
fn without_numbers(variable: &str) -> String {
    let parts = variable.split("__").filter(|part| part.parse::<usize>().is_err());
    parts.collect::<Vec<_>>().join("__")
}

/// The configuration `text`, and what variables add to it.
fn with_variables(text: &str, variables: &[(String, String)]) -> String {
    let mut table: toml::Table = text.parse().unwrap();
    let keys = keys();
    for (name, value) in variables {
        let value = match keys[&without_numbers(name)].as_str() {
            "number" => toml::Value::Integer(value.parse().unwrap()),
            "flag" => toml::Value::Boolean(value.parse().unwrap()),
            "texts" => value.split(',').map(str::to_owned).collect::<Vec<_>>().into(),
            _ => toml::Value::String(value.clone()),
        };
        let lower = name.to_ascii_lowercase();
        let path: Vec<&str> = lower.split("__").skip(1).collect();
        let place = table.entry(path[0]);
        match path[..] {
            [_, key] => {
                let inner = place.or_insert_with(|| toml::Table::new().into());
                inner.as_table_mut().unwrap().insert(key.to_owned(), value);
            }
            [_, number, key] => {
                let list = place.or_insert_with(|| toml::Value::Array(Vec::new()));
                let (list, number): (_, usize) = (list.as_array_mut().unwrap(), number.parse().unwrap());
                if number == list.len() {
                    list.push(toml::Table::new().into());
                }
                list[number].as_table_mut().unwrap().insert(key.to_owned(), value);
            }
            _ => panic!("{name}"),
        }
    }
    toml::to_string(&table).unwrap()
}

/// Kustomize, with secrets beside it as its first lines say.
#[test]
fn kustomize_builds_what_agrees() {
    let Some(kubectl) = require_program("kubectl") else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(docker("k8s")).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_file() {
            fs::copy(entry.path(), directory.path().join(entry.file_name())).unwrap();
        }
    }
    fs::create_dir(directory.path().join("secrets")).unwrap();
    for name in ["state-key", "admin", "valkey"] {
        fs::write(directory.path().join("secrets").join(name), name).unwrap();
    }
    let output = Command::new(kubectl)
        .arg("kustomize")
        .arg(directory.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let Some(objects) = documents(&String::from_utf8(output.stdout).unwrap()) else {
        return;
    };
    let gateway = Gateway::read("k8s/gateway.toml");
    assert_eq!(
        object(&objects, "ConfigMap")["data"]["gateway.toml"],
        gateway.text.as_str()
    );
    assert_deployment_agrees(&objects, &gateway);
}

// Helm

/// Each `.Values.…` in the text.
fn values_in(text: &str) -> BTreeSet<String> {
    let starts = text
        .match_indices(".Values.")
        .map(|(at, begin)| &text[at + begin.len()..]);
    let is_of_path = |c: char| c.is_ascii_alphanumeric() || c == '.';
    let paths = starts.map(|rest| rest.split(|c| !is_of_path(c)).next().unwrap().trim_end_matches('.'));
    paths.map(str::to_owned).collect()
}

fn templates() -> Vec<(PathBuf, String)> {
    let entries = fs::read_dir(docker("helm/popgate/templates")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
        .collect()
}

#[test]
fn the_chart_uses_the_values_that_it_has() {
    let (Some(chart), Some(values)) = (
        document("helm/popgate/Chart.yaml"),
        document("helm/popgate/values.yaml"),
    ) else {
        return;
    };
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    let mut used = BTreeSet::new();
    for (path, text) in templates() {
        assert_eq!(
            text.matches("{{").count(),
            text.matches("}}").count(),
            "{}",
            path.display()
        );
        used.extend(values_in(&text));
    }
    for path in &used {
        let pointer = format!("/{}", path.replace('.', "/"));
        assert!(values.pointer(&pointer).is_some(), "values.yaml has no {path}");
    }
    for (name, value) in values.as_object().unwrap() {
        let parts = match value {
            Value::Object(parts) if !parts.is_empty() => parts.keys().map(|part| format!("{name}.{part}")).collect(),
            _ => vec![name.clone()],
        };
        let is_whole = used.contains(name);
        for part in parts {
            assert!(is_whole || used.contains(&part), "no template uses {part}");
        }
    }
    // Nothing but what the values are not for.
    assert_eq!(values["state"]["url"], "");
    let gateway = Gateway::parse(&string(&values["config"]));
    for table in ["listener", "tls", "web", "state"] {
        assert!(!gateway.table.contains_key(table), "{table}");
    }
}

#[test]
fn variables_of_the_chart_are_keys() {
    let deployment = text("helm/popgate/templates/deployment.yaml").replace("{{ $index }}", "0");
    let words = deployment.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let variables: BTreeSet<&str> = words.filter(|word| word.starts_with("POPGATE__")).collect();
    assert!(variables.len() > 12, "{variables:?}");
    for variable in variables {
        assert!(keys().contains_key(&without_numbers(variable)), "{variable} is no key");
    }
}

/// As it is installed: the values of the chart, and those that it cannot know.
#[test]
fn helm_renders_what_agrees() {
    let Some(helm) = find_program("helm") else {
        return skip("helm is not installed");
    };
    let chart = docker("helm/popgate");
    let url = "state.url=redis+sentinel://popgate@valkey-sentinel/popgate";
    let run = |arguments: &[&str]| {
        let output = Command::new(&helm)
            .args(arguments)
            .arg(&chart)
            .args(["--set", url])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    run(&["lint", "--strict"]);
    let secrets = "secrets.files.state-key=x,secrets.files.admin=x,secrets.files.valkey=x";
    let proxy = "proxy.from={10.0.0.5,10.0.0.6}";
    let scaled = "autoscaling.enabled=true";
    for more in [
        &["--set", secrets][..],
        &["--set", secrets, "--set", proxy, "--set", scaled],
    ] {
        let rendered = run(&[&["template", "mail"], more].concat());
        let Some(objects) = documents(&rendered) else { return };
        let container = &object(&objects, "Deployment")["spec"]["template"]["spec"]["containers"][0];
        let configuration = string(&object(&objects, "ConfigMap")["data"]["gateway.toml"]);
        let gateway = Gateway::parse(&with_variables(&configuration, &variables(container)));
        assert_deployment_agrees(&objects, &gateway);
        let is_behind_proxies = more.contains(&proxy);
        for listener in &gateway.config.listeners {
            assert_eq!(
                listener.proxy_protocol_from.len(),
                if is_behind_proxies { 2 } else { 0 }
            );
        }
        let is_scaled = objects.iter().any(|object| object["kind"] == "HorizontalPodAutoscaler");
        assert_eq!(is_scaled, more.contains(&scaled));
        assert_ne!(
            object(&objects, "Deployment")["spec"].get("replicas").is_some(),
            is_scaled
        );
    }
}
