//! The token of this process's tenant, as its environment says.

use std::io::{self, Read};
use std::path::PathBuf;

use chariot_types::{Token, TokenError};

/// The environment variable that is the token.
pub const TOKEN_VARIABLE: &str = "CHARIOT_TOKEN";

/// The environment variable that names a file with the token in it.
pub const TOKEN_FILE_VARIABLE: &str = "CHARIOT_TOKEN_FILE";

/// Why there is no token where one is named.
#[derive(Debug, thiserror::Error)]
pub enum NoToken {
    /// The file cannot be read.
    #[error("cannot read the token in `{path}`")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is there is no token.
    #[error("what `{place}` holds is no token")]
    Text {
        /// The variable or the file.
        place: String,
        /// Why.
        source: TokenError,
    },
}

/// The token that the environment holds or names, if it does: `CHARIOT_TOKEN` itself, or else what is in the file
/// `CHARIOT_TOKEN_FILE`.
pub fn token_from_environment() -> Result<Option<Token>, NoToken> {
    let named = |variable| std::env::var_os(variable).filter(|value| !value.is_empty());
    if let Some(text) = named(TOKEN_VARIABLE) {
        return token(&text.to_string_lossy(), || TOKEN_VARIABLE.to_owned()).map(Some);
    }
    named(TOKEN_FILE_VARIABLE).map(|path| token_in_file(path.into())).transpose()
}

/// The token in a file, with or without a line's end behind it.
pub fn token_in_file(path: PathBuf) -> Result<Token, NoToken> {
    let mut text = String::new();
    let read =
        std::fs::File::open(&path).and_then(|file| file.take(2 * Token::MAX_LEN as u64).read_to_string(&mut text));
    match read {
        Ok(_) => token(text.trim_end(), || path.display().to_string()),
        Err(source) => Err(NoToken::File { path, source }),
    }
}

fn token(text: &str, place: impl Fn() -> String) -> Result<Token, NoToken> {
    text.parse().map_err(|source| NoToken::Text { place: place(), source })
}
