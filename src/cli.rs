//! What a person types: serve | check | demo | hash-password.
