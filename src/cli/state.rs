//! `popgate state`: shows what logins have done with messages, and forgets it on request.

use std::io::{self, Write};

use super::{Failure, day};
use crate::{
    config::{Config, Log},
    state::{self, Marked, Marks},
    telemetry,
    types::{UidValidity, canonical},
};

/// Shows the marks of all logins, or of `login`. With `reset`, forgets the marks of that login, in all folders or in
/// `folder`.
pub(super) async fn run(
    config: &Config,
    login: Option<&str>,
    reset: Option<&str>,
    folder: Option<&str>,
) -> Result<(), Failure> {
    if !config.state.is_kept() {
        return Err(Failure::wrong(
            "[state] has no `dir`: what logins have done is in the running gateway's memory only, until it ends",
        ));
    }
    // If the state cannot be read, the log says why.
    telemetry::init(&Log::for_people("warn"))?;
    // Closed before anything is printed: a gateway that starts while somebody pages through the output needs the file.
    let store = state::reach_configured(&config.state).map_err(Failure::failed)?;
    let mut out = io::stdout();
    match reset {
        Some(login) => {
            let cleared = store.clear_marks(&canonical(login, None), folder).await;
            drop(store);
            report_cleared(cleared.map_err(Failure::failed)?, login, folder, &mut out)
        }
        None => {
            let all = store.all_marks().await;
            drop(store);
            show(all.map_err(Failure::failed)?, login, &mut out)
        }
    }
}

fn show(mut all: Vec<Marked>, login: Option<&str>, out: &mut impl Write) -> Result<(), Failure> {
    all.retain(|(other, ..)| login.is_none_or(|login| canonical(login, None) == *other));
    if all.is_empty() {
        let whose = login.map_or("of any login".to_owned(), |login| format!("of login {login}"));
        writeln!(out, "nothing is kept {whose}")?;
        return Ok(());
    }
    all.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    for (login, mailbox, marks) in &all {
        writeln!(
            out,
            "{login}: {} of {} at [upstream.{}]: {}",
            mailbox.folder,
            mailbox.user,
            mailbox.upstream,
            match marks {
                Ok(marks) => describe(marks),
                Err(error) => format!("{error} (popgate state --reset {login} forgets it)"),
            }
        )?;
    }
    Ok(())
}

fn report_cleared(mailboxes: usize, login: &str, folder: Option<&str>, out: &mut impl Write) -> Result<(), Failure> {
    let what = match folder {
        Some(folder) => format!("{folder} of login {login}"),
        None => format!("login {login}"),
    };
    let mailboxes = match mailboxes {
        0 => {
            return Err(Failure::failed(format!(
                "nothing is kept of {what} (popgate state shows what is)"
            )));
        }
        1 => "one mailbox".to_owned(),
        count => format!("{count} mailboxes"),
    };
    writeln!(
        out,
        "forgotten: what was kept of {what}, in {mailboxes}; it sees all messages again"
    )?;
    Ok(())
}

/// The marks in words, in one line.
fn describe(marks: &Marks) -> String {
    let mut parts = Vec::new();
    let mut count = |number: usize, what: &str| {
        if number > 0 {
            parts.push(format!("{number} {what}"));
        }
    };
    count(marks.hidden.len(), "hidden");
    count(marks.noticed.len(), "notices deleted");
    count(marks.undelivered.len(), "not delivered by the upstream");
    count(marks.imported.len(), "UIDLs imported");
    let times = || marks.retrieved.iter().map(|(_, &at)| at);
    if let (Some(first), Some(last)) = (times().min(), times().max()) {
        let when = if day(first) == day(last) {
            format!("on {}", day(first))
        } else {
            format!("from {} to {}", day(first), day(last))
        };
        parts.push(format!("{} retrieved {when}", marks.retrieved.len()));
    }
    if parts.is_empty() {
        parts.push("nothing any more".into());
    }
    format!(
        "{} (UIDVALIDITY {})",
        parts.join(", "),
        UidValidity::of_state_or_zero(marks.uid_validity)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Uid;

    #[test]
    fn says_what_was_done() {
        let mut marks = Marks {
            uid_validity: 7,
            hidden: [1, 2].into(),
            retrieved: [(1, 86_400), (2, 10 * 86_400)].into(),
            ..Marks::default()
        };
        assert_eq!(
            describe(&marks),
            "2 hidden, 2 retrieved from 1970-01-02 to 1970-01-11 (UIDVALIDITY 7)"
        );
        marks.retrieved.remove(Uid(2));
        assert_eq!(describe(&marks), "2 hidden, 1 retrieved on 1970-01-02 (UIDVALIDITY 7)");
        assert_eq!(describe(&Marks::default()), "nothing any more (UIDVALIDITY 0)");
    }
}
