//! Values that are one of a few words.

use super::{
    key::Wrong,
    nearest::{nearest, quoted_list},
};

/// Declares an enum of words: `Variant = "word"`, then aliases after `|`. An alias is refused with a message that
/// suggests the word.
macro_rules! words {
    ($($(#[$about:meta])* $visible:vis enum $name:ident {
        $($(#[$doc:meta])* $variant:ident = $word:literal $(| $alias:literal)*,)*
    })*) => {$(
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $visible enum $name {
            $($(#[$doc])* $variant,)*
        }

        impl std::fmt::Display for $name {
            /// The word of the configuration.
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $word,)*
                })
            }
        }

        impl $crate::config::key::Value for $name {
            const KIND: $crate::config::key::Kind = $crate::config::key::Kind::Words(&[$($word),*]);

            fn read(raw: &$crate::config::key::Raw<'_>) -> Result<Self, $crate::config::key::Wrong> {
                match $crate::config::value::text(raw)? {
                    $($word => Ok(Self::$variant),)*
                    other => Err($crate::config::words::unknown(other, &[$(($word, &[$($alias),*])),*])),
                }
            }
        }
    )*};
}

pub(super) use words;

/// The message for a word that is not in `known`, which is a list of words with their aliases.
pub(super) fn unknown(word: &str, known: &[(&str, &[&str])]) -> Wrong {
    let wrong = Wrong::new(format!("unknown value {word:?}"));
    let alias = known
        .iter()
        .find(|(known, aliases)| {
            [known]
                .into_iter()
                .chain(*aliases)
                .any(|alias| alias.eq_ignore_ascii_case(word))
        })
        .map(|(known, _)| *known);
    let words = known.iter().map(|(word, _)| *word);
    match alias.or_else(|| nearest(word, words.clone())) {
        Some(word) => wrong.help(format!("did you mean \"{word}\"?")),
        None => wrong.help(format!("one of {}", quoted_list(words))),
    }
}
