//! A real browser without a screen: Chromium, controlled by chromedriver (WebDriver over HTTP).

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::{PATIENCE, process::Process, require_program};

/// The key under which the driver returns the id of an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser window; closed when dropped.
pub struct Chromium {
    _driver: Process,
    runtime: Runtime,
    client: reqwest::Client,
    /// The URL of the WebDriver session.
    url: String,
    _profile: TempDir,
}

impl Chromium {
    /// Starts the browser; `client` sends the requests to the driver. `None` if Chromium is not installed. Every name
    /// below `evil.test` leads to this machine.
    pub fn start(client: reqwest::Client) -> Option<Self> {
        require_program("chromium")?;
        require_program("chromedriver")?;
        let profile = tempfile::tempdir().unwrap();
        let driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut driver = Process(driver);
        let lines = BufReader::new(driver.0.stdout.take().unwrap()).lines();
        let port = lines.map_while(Result::ok).find_map(|line| {
            let (_, port) = line.split_once("started successfully on port ")?;
            port.trim_end_matches('.').parse::<u16>().ok()
        });
        let mut chromium = Self {
            _driver: driver,
            runtime: Runtime::new().unwrap(),
            client,
            url: format!("http://127.0.0.1:{}/session", port.expect("the driver's port")),
            _profile: profile,
        };
        let directory = format!("--user-data-dir={}", chromium._profile.path().display());
        let session = chromium.command(
            "",
            json!({ "capabilities": { "alwaysMatch": {
                "browserName": "chrome",
                "acceptInsecureCerts": true,
                "timeouts": { "implicit": (PATIENCE / 2).as_millis() as u64 },
                "goog:loggingPrefs": { "browser": "ALL" },
                "goog:chromeOptions": { "args": [
                    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                    "--host-resolver-rules=MAP *.evil.test 127.0.0.1", directory,
                ] },
            } } }),
        );
        let id = session["sessionId"].as_str().unwrap();
        chromium.url = format!("{}/{id}", chromium.url);
        Some(chromium)
    }

    #[track_caller]
    fn command(&self, path: &str, body: Value) -> Value {
        let request = self.client.post(format!("{}{path}", self.url)).body(body.to_string());
        let value = self.value(request);
        assert!(value.get("error").is_none(), "{path} {body}: {value}");
        value
    }

    /// The value in the driver's answer.
    #[track_caller]
    fn value(&self, request: reqwest::RequestBuilder) -> Value {
        let text = async { request.send().await.unwrap().text().await.unwrap() };
        let text = self.runtime.block_on(text);
        let mut answer: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        answer["value"].take()
    }

    /// Opens a page.
    pub fn open(&self, url: &str) {
        self.command("/url", json!({ "url": url }));
    }

    /// Runs the body of a JavaScript function in the page, and returns its result.
    #[track_caller]
    pub fn run(&self, script: &str) -> Value {
        self.command("/execute/sync", json!({ "script": script, "args": [] }))
    }

    /// Waits for the element with this CSS selector, and returns its id.
    #[track_caller]
    fn element(&self, selector: &str) -> String {
        let found = self.command("/element", json!({ "using": "css selector", "value": selector }));
        found[ELEMENT].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub fn click(&self, selector: &str) {
        let element = self.element(selector);
        self.command(&format!("/element/{element}/click"), json!({}));
    }

    #[track_caller]
    pub fn type_into(&self, selector: &str, text: &str) {
        let element = self.element(selector);
        self.command(&format!("/element/{element}/value"), json!({ "text": text }));
    }

    /// The text that a person reads in an element.
    #[track_caller]
    pub fn text(&self, selector: &str) -> String {
        self.element(selector);
        let script = format!("return document.querySelector({selector:?}).innerText");
        self.run(&script).as_str().unwrap().to_owned()
    }

    /// Sets the width of the window, and the colour scheme (`light` or `dark`).
    pub fn look(&self, width: u32, scheme: &str) {
        let metrics = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.cdp("Emulation.setDeviceMetricsOverride", metrics);
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.cdp("Emulation.setEmulatedMedia", media);
    }

    fn cdp(&self, command: &str, parameters: Value) {
        self.command("/goog/cdp/execute", json!({ "cmd": command, "params": parameters }));
    }

    /// Saves a picture of the window.
    pub fn screenshot(&self, file: &Path) {
        let value = self.value(self.client.get(format!("{}/screenshot", self.url)));
        let picture = BASE64.decode(value.as_str().unwrap()).unwrap();
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, picture).unwrap();
    }

    /// What the browser has complained of since the last call.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.command("/se/log", json!({ "type": "browser" }));
        let messages = log.as_array().unwrap().iter();
        messages
            .map(|entry| entry["message"].as_str().unwrap().to_owned())
            .collect()
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // The driver ends the browser along with the session.
        let request = self.client.delete(&self.url);
        let _ = self.runtime.block_on(async { request.send().await });
    }
}
