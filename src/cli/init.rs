//! `popgate init`: asks a few questions and writes a first configuration.

mod answer;
mod draft;
mod questions;

use std::{
    fs::{self, OpenOptions},
    io::{self, BufRead, IsTerminal, Write},
    path::{Path, PathBuf},
};

use aws_lc_rs::rand;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use zeroize::Zeroizing;

use self::{
    answer::{DeviceKind, ListenerChoice, MailProvider, Users, policy, tenant, word},
    draft::{Access, CertificateFiles, Draft, Hash},
    questions::Questions,
};
use super::{CONFIG, Failure, directory_of};
use crate::{
    accounts,
    config::{Config, ListenerTls, Preset, Secret, toml_string},
    tls::Acceptor,
    types::RandomUnavailable,
};

const WHOSE: &str = "\
1. Whose mail? The address of a mailbox, such as office@example.org; or *@example.org
   if each device logs in as a user of that domain, with the user's own password.";
const WHERE: &str = "2. Where is it? At one of these providers, or at another IMAP server.";
const PORT: &str = "\
4. At which port does it connect? 127.0.0.1 before the port is for programs on this machine,
   0.0.0.0 for the network (without TLS: for private networks). TLS needs a certificate:
   write 995, or a port and the word tls or starttls.";
const POLICY: &str = "\
5. What does a delete of the device do?
  trash       moves the message to the trash
  move:FOLDER moves it to that folder
  hide        hides it from this login only
  expunge     removes it for good";

/// Writes `file` and, in the same directory, the secret files that it names. Fails if any of them exists.
pub(super) fn run(file: &Path) -> Result<(), Failure> {
    let at_terminal = io::stdin().is_terminal();
    may_be_written(file)?;
    let mut questions = Questions::new(io::stdin().lock(), io::stdout(), at_terminal);
    questions.print(&format!(
        "This writes {}. An empty answer takes the value in [brackets].",
        file.display()
    ))?;
    let answers = ask(&mut questions, file)?;
    let written = write(file, &answers.draft)?;
    questions.print(&answers.conclusion(file, &written))
}

/// Fails before the first question if a file that may have to be written exists.
fn may_be_written(file: &Path) -> Result<(), Failure> {
    let directory = directory_of(file);
    if !directory.is_dir() {
        return Err(Failure::wrong(format!(
            "there is no directory {}: make it first",
            directory.display()
        )));
    }
    let secrets = draft::SECRET_FILES.map(|name| directory.join(name));
    match [file.to_owned()].iter().chain(&secrets).find(|file| file.exists()) {
        Some(taken) => Err(is_taken(taken)),
        None => Ok(()),
    }
}

fn is_taken(file: &Path) -> Failure {
    let file = file.display();
    Failure::wrong(format!(
        "{file} is there already, and popgate init replaces nothing: move it away, or write elsewhere by --config"
    ))
}

/// The files to write, and what to print at the end.
struct Answers {
    draft: Draft,
    /// A password that was generated for the device; it is printed once.
    made: Option<Zeroizing<String>>,
}

fn ask<R: BufRead, W: Write>(questions: &mut Questions<R, W>, file: &Path) -> Result<Answers, Failure> {
    let users = questions.ask(WHOSE, None, Users::read)?;
    let presets: Vec<_> = Preset::all().map(|preset| preset.name.as_str()).collect();
    let provider = questions.ask(
        &format!("{WHERE}{}", lines(&presets)),
        MailProvider::suggested(&users).as_deref(),
        |answer| MailProvider::read(answer, &users),
    )?;
    let device = questions.ask(
        &format!("3. What fetches it?{}", DeviceKind::list()),
        Some("1"),
        DeviceKind::read,
    )?;
    let listener = questions.ask(PORT, Some(device.address), |answer| {
        ListenerChoice::read(answer, device.address)
    })?;
    let certificate = match listener.tls {
        ListenerTls::Off => None,
        _ => Some(certificate(questions)?),
    };
    let policy = questions.ask(POLICY, Some(device.policy), policy)?;
    let (access, made) = access(questions, &users, &provider)?;
    // In /etc a service has configuration only; its state belongs in /var/lib.
    let is_of_the_system = std::path::absolute(file)?.starts_with("/etc");
    let draft = Draft {
        users,
        provider,
        listener,
        certificate,
        policy,
        state_dir: if is_of_the_system { "/var/lib/popgate" } else { "state" },
        access,
    };
    Ok(Answers { draft, made })
}

/// `words`, eight a line, for narrow terminals.
fn lines(words: &[&str]) -> String {
    let lines = words.chunks(8).map(|words| format!("\n  {}", words.join(" ")));
    lines.collect()
}

fn certificate<R: BufRead, W: Write>(questions: &mut Questions<R, W>) -> Result<CertificateFiles, Failure> {
    let readable = |answer: &str| {
        let file = std::path::absolute(answer).map_err(|error| error.to_string())?;
        match fs::File::open(&file) {
            Ok(_) => Ok(file),
            Err(error) => Err(format!("{} cannot be read: {error}", file.display())),
        }
    };
    loop {
        let chain = questions.ask(
            "The certificate, with those that lead to its root: a PEM file.",
            None,
            readable,
        )?;
        let key = questions.ask("Its private key: a PEM file.", None, readable)?;
        let certificate = CertificateFiles { chain, key };
        match fits(&certificate) {
            Ok(()) => return Ok(certificate),
            Err(wrong) => questions.print(&format!("  {wrong}"))?,
        }
    }
}

/// Fails if a listener cannot serve with `certificate`.
fn fits(certificate: &CertificateFiles) -> Result<(), String> {
    let (chain, key) = (certificate.chain.to_string_lossy(), certificate.key.to_string_lossy());
    let text = format!(
        "[tls]\ncertificate = {}\nkey = {}\n[[listener]]\naddress = \"127.0.0.1:995\"\ntls = \"implicit\"\n\
         [upstream.any]\nhost = \"localhost\"\nlogins = [\"*\"]\n",
        toml_string(&chain),
        toml_string(&key)
    );
    let config = Config::parse(&text, Path::new("")).map_err(|error| error.to_string())?;
    let listener = &config.listeners[0];
    Acceptor::for_listener(&config.tls, listener, None)
        .map(drop)
        .map_err(|error| error.to_string())
}

/// How to log in upstream, and the password that was generated for the device, if any.
fn access<R: BufRead, W: Write>(
    questions: &mut Questions<R, W>,
    users: &Users,
    provider: &MailProvider,
) -> Result<(Access, Option<Zeroizing<String>>), Failure> {
    let Users::One(user) = users else {
        return Ok((Access::Forwarded, None));
    };
    let Some(upstream) = upstream_password(questions, user, provider)? else {
        return by_tokens(questions, provider);
    };
    let (device, made) = device_password(questions)?;
    Ok((Access::Password { device, upstream }, made))
}

/// The password of `user` at the IMAP server; `None` if OAuth2 is to be used instead.
fn upstream_password<R: BufRead, W: Write>(
    questions: &mut Questions<R, W>,
    user: &str,
    provider: &MailProvider,
) -> Result<Option<Secret>, Failure> {
    let question = match provider {
        MailProvider::Other { host, .. } => format!("The password of {user} at {host}."),
        MailProvider::Known(preset) => match &preset.passwords {
            Some(which) => format!("The password of {user} there. {which}."),
            None => return Ok(None),
        },
    };
    match provider {
        MailProvider::Known(preset) if preset.takes_tokens() => {
            questions.secret_or(&question, "none: somebody signs in with a browser (OAuth2)")
        }
        _ => questions.secret(&question).map(Some),
    }
}

fn by_tokens<R: BufRead, W: Write>(
    questions: &mut Questions<R, W>,
    provider: &MailProvider,
) -> Result<(Access, Option<Zeroizing<String>>), Failure> {
    let client_id = questions.ask(
        &format!(
            "{} asks which application reads the mail: register one of your own there, as README describes.\nIts client id.",
            provider.name()
        ),
        None,
        word,
    )?;
    let tenant = match provider.tenant() {
        Some(usual) => {
            let tenant = questions.ask("The tenant of the application: a domain or an id.", Some(usual), tenant)?;
            Some(tenant).filter(|tenant| tenant != usual)
        }
        None => None,
    };
    let client_secret = questions.secret_or("The application's secret.", "none")?;
    let (device, made) = device_password(questions)?;
    let mut octets = Zeroizing::new([0; 32]);
    rand::fill(&mut *octets).map_err(|_| Failure::failed(RandomUnavailable))?;
    let key = Secret::from(BASE64.encode(*octets).into_bytes());
    let access = Access::OAuth2 {
        device,
        client_id,
        client_secret,
        tenant,
        key,
    };
    Ok((access, made))
}

fn device_password<R: BufRead, W: Write>(
    questions: &mut Questions<R, W>,
) -> Result<(Hash, Option<Zeroizing<String>>), Failure> {
    let given = questions.secret_or(
        "A password that the device gives to popgate.",
        "a new one, which is shown at the end",
    )?;
    let (password, made) = match given {
        Some(given) => (given, None),
        None => {
            let made = random_password()?;
            (Secret::from(made.as_str()), Some(made))
        }
    };
    let hash = accounts::hash_password(&password).map_err(|error| Failure::failed(error.to_string()))?;
    Ok((Hash(hash), made))
}

/// Letters and digits that are hard to confuse. Sixteen of them hold 80 random bits.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Four groups of four characters, easy to type into a device.
fn random_password() -> Result<Zeroizing<String>, Failure> {
    let mut octets = Zeroizing::new([0; 16]);
    rand::fill(&mut *octets).map_err(|_| Failure::failed(RandomUnavailable))?;
    let letters: Vec<char> = octets
        .iter()
        .map(|octet| ALPHABET[usize::from(octet % 32)].into())
        .collect();
    let groups: Vec<String> = letters.chunks(4).map(|group| group.iter().collect()).collect();
    Ok(Zeroizing::new(groups.join("-")))
}

/// Writes all files of `draft`, or none. Returns their names.
fn write(file: &Path, draft: &Draft) -> Result<Vec<PathBuf>, Failure> {
    let mut written = Vec::new();
    let done = write_each(file, draft, &mut written);
    if done.is_err() {
        for file in &written {
            let _ = fs::remove_file(file);
        }
    }
    done.map(|()| written)
}

/// Writes the configuration last: if it exists, all other files do.
fn write_each(file: &Path, draft: &Draft, written: &mut Vec<PathBuf>) -> Result<(), Failure> {
    for (name, secret) in draft.secrets() {
        let line = Zeroizing::new([secret.expose(), b"\n"].concat());
        create(file.with_file_name(name), &line, written)?;
    }
    let text = draft.text();
    Config::parse(&text, directory_of(file))?;
    create(file.to_owned(), text.as_bytes(), written)
}

/// Creates a file that only the current user can read and write (mode 0600).
fn create(file: PathBuf, content: &[u8], written: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let created = options.write(true).create_new(true).open(&file);
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => is_taken(&file),
        _ => Failure::failed(format!("cannot write {}: {error}", file.display())),
    };
    let mut created = created.map_err(&failed)?;
    written.push(file.clone());
    created
        .write_all(content)
        .and_then(|()| created.sync_all())
        .map_err(failed)
}

impl Answers {
    /// What was written, what the device needs, and which commands come next.
    fn conclusion(&self, file: &Path, written: &[PathBuf]) -> String {
        let Draft { users, listener, .. } = &self.draft;
        let written: Vec<_> = written.iter().map(|file| file.display().to_string()).collect();
        let mut text = format!(
            "\nWritten, for your user alone: {}.\n(If popgate runs as another user, that user must be able to read this.)\n\n",
            written.join(", ")
        );
        let server = match listener.address.ip() {
            ip if ip.is_loopback() => format!("this machine ({ip})"),
            ip if ip.is_unspecified() => "the name or address of this machine".to_owned(),
            ip => ip.to_string(),
        };
        let tls = match listener.tls {
            ListenerTls::Off => "without TLS",
            ListenerTls::StartTls => "with STARTTLS",
            _ => "with TLS (SSL)",
        };
        let password = match (&self.made, &self.draft.access) {
            (Some(made), _) => format!("{} (note it now: only a hash is kept)", made.as_str()),
            (None, Access::Forwarded) => "that of the user at the IMAP server".into(),
            (None, _) => "the one that you gave".into(),
        };
        let login = match users {
            Users::One(login) => login.clone(),
            Users::Every(pattern) => format!("that of the user at the IMAP server ({pattern})"),
        };
        text += &format!(
            "The device's POP3 account:\n  server    {server}, port {}, {tls}\n  user      {login}\n  password  {password}\n\nNext:\n",
            listener.address.port()
        );
        let config = if file == Path::new(CONFIG) {
            String::new()
        } else {
            format!(" --config {}", shell_word(file))
        };
        if let (Access::OAuth2 { .. }, Users::One(login)) = (&self.draft.access, users) {
            text += &format!("  popgate sign-in {}{config}\n", shell_word(Path::new(login)));
        }
        text + &format!("  popgate check --connect{config}\n  popgate serve{config}")
    }
}

/// `file` as one word of a shell command, quoted if necessary.
fn shell_word(file: &Path) -> String {
    let text = file.to_string_lossy();
    if text.chars().all(|c| c.is_alphanumeric() || "/._-@+,:=".contains(c)) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests;
