//! How the gateway's page looks in a browser, and how a browser logs in to it.

use std::path::Path;

use serde_json::json;

use super::{chromium::Chromium, web::ADMIN};

/// Opens the page at `url` and enters the password.
#[track_caller]
pub fn log_in(chromium: &Chromium, url: &str) {
    chromium.open(&format!("{url}/"));
    chromium.type_into("#password", ADMIN);
    chromium.click("main form button");
    chromium.text("header h1");
}

/// Finds faults: something sticks out or is cut off, a time is broken over two lines, or a text cannot be read (WCAG
/// 2.1 §1.4.3).
const FAULTS: &str = r"
    const faults = [];
    const root = document.documentElement;
    if (root.scrollWidth > root.clientWidth) faults.push(`wider than the window: ${root.scrollWidth}`);
    for (const time of document.querySelectorAll('time'))
        if (time.getClientRects().length !== 1) faults.push(`broken: ${time.innerText}`);
    const parse = text => (text.match(/[\d.]+/g) || []).map(Number);
    const light = text => {
        const [r, g, b] = parse(text).map(c => c / 255).map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = element => {
        for (; element; element = element.parentElement) {
            const colour = getComputedStyle(element).backgroundColor;
            const [, , , alpha] = parse(colour);
            if (alpha !== 0) return colour;
        }
        return 'rgb(255, 255, 255)';
    };
    for (const element of document.querySelectorAll('body *')) {
        if (![...element.childNodes].some(node => node.nodeType === 3 && node.data.trim())) continue;
        const [a, b] = [light(getComputedStyle(element).color), light(behind(element))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < 4.5) faults.push(`contrast ${ratio.toFixed(2)}: ${element.innerText}`);
    }
    return faults;";

/// Checks the open page in each width and colour scheme, and leaves pictures of it in the build's directory.
#[track_caller]
pub fn look_at(chromium: &Chromium, name: &str) {
    for (way, width, scheme) in [
        ("light", 1000, "light"),
        ("dark", 1000, "dark"),
        ("narrow", 360, "light"),
        ("narrow-dark", 360, "dark"),
    ] {
        chromium.look(width, scheme);
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("screenshots/{name}-{way}.png"));
        chromium.screenshot(&file);
        assert_eq!(chromium.run(FAULTS), json!([]), "{name}, {way}");
    }
    chromium.look(1000, "light");
}

/// Asserts that the page's Content Security Policy has blocked nothing.
#[track_caller]
pub fn complains_of_no_policy(chromium: &Chromium) {
    let complaints = chromium.complaints();
    let policy: Vec<_> = complaints
        .iter()
        .filter(|complaint| complaint.contains("Content Security Policy") && !complaint.contains("favicon"))
        .collect();
    assert!(policy.is_empty(), "{policy:?}");
}
