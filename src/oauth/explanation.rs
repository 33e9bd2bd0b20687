//! Explains the refusals of providers, and says what to do about them.

/// A text to find in the description or the code, and the sentence that explains it. The first text that is found
/// counts.
const EXPLANATIONS: &[(&str, &str)] = &[
    // Microsoft Entra: https://learn.microsoft.com/entra/identity-platform/reference-error-codes
    (
        "AADSTS7000222",
        "The application's client secret has expired: make a new one in the Entra portal and put it into the configuration.",
    ),
    (
        "AADSTS7000215",
        "The client secret is wrong: the portal shows its value once, and its id is not its value.",
    ),
    (
        "AADSTS7000218",
        "The application must prove itself here: give client_secret_file, or allow public client flows in the Entra portal.",
    ),
    (
        "AADSTS700016",
        "No such application in this tenant: check client_id and tenant.",
    ),
    (
        "AADSTS70001",
        "No such application in this tenant: check client_id and tenant.",
    ),
    ("AADSTS90002", "No such tenant: check tenant in [upstream.….oauth2]."),
    (
        "AADSTS50011",
        "The redirect URL is not registered: add the one that popgate names to the application in the Entra portal.",
    ),
    (
        "AADSTS50194",
        "The application belongs to a single tenant: name it in tenant.",
    ),
    (
        "AADSTS65001",
        "Nobody has consented to what the application asks for: an administrator grants it in the Entra portal, or the user when signing in.",
    ),
    ("AADSTS65004", "The user did not consent when signing in."),
    (
        "AADSTS90094",
        "An administrator must consent to this application first: Entra portal, Enterprise applications, Permissions.",
    ),
    ("AADSTS50173", "The password was changed or all sessions were revoked."),
    (
        "AADSTS700082",
        "The consent has expired, because it was not used for too long.",
    ),
    (
        "AADSTS70043",
        "A Conditional Access policy limits how long a consent lasts.",
    ),
    (
        "AADSTS700084",
        "The consent was for a browser, and such consents last a day: sign in by device code.",
    ),
    ("AADSTS70008", "The consent or the code has expired."),
    (
        "AADSTS53003",
        "A Conditional Access policy blocks the login. Many tenants block sign-ins by code: take popgate sign-in --browser, or grant \
         = \"code\" for the page of [web]; else an administrator must let this application and this address through.",
    ),
    (
        "AADSTS50199",
        "Microsoft wants the person to confirm the sign-in in a browser, which a code does not allow here: take \
         popgate sign-in --browser, or grant = \"code\" for the page of [web].",
    ),
    (
        "AADSTS53000",
        "A Conditional Access policy wants a device that the company manages: an administrator must exempt this application.",
    ),
    ("AADSTS50057", "The account is disabled."),
    ("AADSTS50034", "There is no such user in this tenant."),
    (
        "AADSTS50055",
        "The user's password has expired: it must be changed first.",
    ),
    (
        "AADSTS50020",
        "The user is from another tenant: sign in with one of the tenant's own.",
    ),
    (
        "AADSTS50076",
        "Multi-factor authentication is asked for: it is done when signing in.",
    ),
    (
        "AADSTS50079",
        "Multi-factor authentication must be set up for the user: sign in once in a browser.",
    ),
    (
        "AADSTS50105",
        "The user is not assigned to the application: Entra portal, Enterprise applications, Users and groups.",
    ),
    (
        "AADSTS700027",
        "The certificate does not fit the one that is registered: upload it in the Entra portal, or check certificate_file.",
    ),
    (
        "AADSTS70011",
        "A scope is wrong: for client credentials it is https://outlook.office365.com/.default.",
    ),
    (
        "AADSTS500011",
        "The scope names a service that the tenant does not have: without Exchange Online there are no mailboxes.",
    ),
    // Google: https://developers.google.com/identity/protocols/oauth2
    (
        "Token has been expired or revoked",
        "The consent has ended: it was withdrawn, the password was changed, it was not used for six months, or the application \
         is in Testing, where consents last 7 days (publish it in the Google Cloud console).",
    ),
    (
        "Bad Request",
        "The consent has ended or was for another application (at Google it lasts 7 days while the application is in Testing).",
    ),
    (
        "admin_policy_enforced",
        "The Google Workspace administrator does not allow this application: Admin console, Security, API controls.",
    ),
    (
        "Client is unauthorized to retrieve access tokens",
        "The service account may not speak for users: grant it domain-wide delegation for https://mail.google.com/ in the Admin console.",
    ),
    (
        "Invalid email or User ID",
        "There is no such user for the service account to speak for.",
    ),
    (
        "Invalid JWT Signature",
        "The private key is not one of the service account's any more: make a new one.",
    ),
    (
        "Invalid JWT: Token must be a short-lived token",
        "This machine's clock is wrong.",
    ),
    ("AADSTS700024", "This machine's clock is wrong."),
    ("invalid_client_secret", "The client secret is wrong."),
    (
        "The OAuth client was not found",
        "No such application: check client_id.",
    ),
    (
        "The OAuth client was deleted",
        "The application was deleted at the provider: register it again.",
    ),
    // RFC 6749 §5.2, RFC 8628 §3.5
    (
        "invalid_client",
        "The provider does not know the application, or its secret is wrong: check client_id and client_secret_file.",
    ),
    (
        "unauthorized_client",
        "The application may not use this grant: allow it where the application is registered.",
    ),
    (
        "invalid_scope",
        "A scope is wrong, or the application may not ask for it: check scopes.",
    ),
    ("access_denied", "The sign-in was declined."),
    ("expired_token", "The code has expired: nobody has entered it in time."),
    (
        "invalid_grant",
        "The consent has ended: it was withdrawn, has expired, or the password was changed.",
    ),
];

/// A sentence that says what a refusal means and what to do about it, if that is known. The description is searched
/// before the code, because it says more.
pub(super) fn explain(code: &str, description: &str) -> Option<&'static str> {
    let of = |text: &str| {
        let stands = |needle: &&(&str, &str)| {
            text.match_indices(needle.0).any(|(at, found)| {
                // AADSTS70001 must not match AADSTS700016.
                !text[at + found.len()..].starts_with(|c: char| c.is_ascii_digit())
            })
        };
        EXPLANATIONS.iter().find(stands).map(|&(_, sentence)| sentence)
    };
    of(description).or_else(|| of(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_tells_more_than_the_code() {
        let of = |code, description| explain(code, description).unwrap_or_default();
        for blocked in ["AADSTS53003", "AADSTS50199"] {
            assert!(of("invalid_grant", blocked).contains("--browser"), "{blocked}");
        }
        assert!(of("invalid_grant", "AADSTS50173: The provided grant has expired…").contains("password was changed"));
        assert!(
            of(
                "invalid_client",
                "AADSTS7000222: The provided client secret keys are expired."
            )
            .contains("expired")
        );
        assert!(of("unauthorized_client", "AADSTS700016: Application with identifier 'x'…").contains("client_id"));
        assert!(of("invalid_grant", "Token has been expired or revoked.").contains("7 days"));
        assert!(of("invalid_grant", "").starts_with("The consent has ended"));
        assert_eq!(explain("unheard_of", "nor this"), None);
    }

    #[test]
    fn each_is_a_sentence() {
        for (needle, sentence) in EXPLANATIONS {
            assert!(sentence.ends_with('.') && !needle.is_empty(), "{needle}");
            assert_eq!(
                explain("", needle),
                Some(*sentence),
                "{needle} is hidden by an earlier one"
            );
        }
    }
}
