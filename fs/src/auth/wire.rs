//! The token endpoint, through the `oauth2` crate.

use std::time::{Duration, SystemTime};

use oauth2::basic::{
    BasicErrorResponse, BasicRevocationErrorResponse, BasicTokenIntrospectionResponse,
    BasicTokenType,
};
use oauth2::{
    AuthType, AuthUrl, ClientId, ClientSecret, DeviceAuthorizationUrl, EndpointNotSet, EndpointSet,
    ErrorResponseType, ExtraTokenFields, RefreshToken, RequestTokenError, Scope,
    StandardErrorResponse, StandardRevocableToken, StandardTokenResponse, TokenResponse, TokenUrl,
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::assertion::Claims;
use super::carrier::{Carrier, HttpTrouble};
use super::credential::{Credential, Proof};
use super::errors::{Refusal, TokenError, judge};
use super::{AuthConfig, StoredToken};

/// What an access token lives when the service does not say: the shortest that is usual.
const USUAL_LIFE: Duration = Duration::from_hours(1);

/// The longest life of an access token that the service knows (section 2.2): more is not believed.
const LONGEST_LIFE: Duration = Duration::from_hours(28);

/// What the service adds to a reply of RFC 6749.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Extra {
    /// What is left of the refresh token, in seconds; told of those that end whatever is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refresh_token_expires_in: Option<serde_json::Value>,
}

impl ExtraTokenFields for Extra {}

/// A reply of the token endpoint.
pub(super) type Reply = StandardTokenResponse<Extra, BasicTokenType>;

type Client = oauth2::Client<
    BasicErrorResponse,
    Reply,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    EndpointSet,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
>;

/// The login authority of one configuration.
pub(super) struct Endpoint {
    pub(super) client: Client,
    pub(super) http: Carrier,
    scopes: Vec<Scope>,
    /// What every request carries beside what the crate puts there.
    extras: Vec<(&'static str, String)>,
}

/// The application on whose behalf the login authority is asked.
pub(super) struct Registration {
    login_url: String,
    tenant: String,
    client_id: String,
    /// From the settings, or from the token that it came along with.
    credential: Credential,
    /// Its secret, where that has to be kept with the token.
    secret_of_token: Option<SecretString>,
    /// What is asked for; nothing: whatever was granted before.
    pub(super) scopes: Vec<String>,
}

impl Registration {
    /// The one that the settings name.
    pub(super) fn of(config: &AuthConfig) -> Self {
        Self {
            login_url: config.login_url.trim_end_matches('/').to_owned(),
            tenant: config.tenant.clone(),
            client_id: config.client_id.clone(),
            credential: config.credential.clone(),
            secret_of_token: None,
            scopes: config.scopes(),
        }
    }

    /// The one that a token was issued to: no other can renew it (section 2.3).
    pub(super) fn that_issued(
        token: &StoredToken,
        config: &AuthConfig,
    ) -> Result<Self, TokenError> {
        let ours = config.login_url.trim_end_matches('/');
        if !token.login_url.is_empty() && token.login_url != ours {
            // A token goes to the authority that issued it, and nowhere else.
            return Err(TokenError::sign_in(format!(
                "the stored token is of {}, drive.login_url is {ours}: sign in there",
                token.login_url
            )));
        }
        // The settings' secret is the one that a person renews when it has expired.
        let own = token.client_id == config.client_id && !config.credential.is_none();
        let (credential, secret_of_token) = if own {
            (config.credential.clone(), None)
        } else {
            let secret = token.client_secret.clone();
            let credential = secret.clone().map_or(Credential::None, Credential::Secret);
            (credential, secret)
        };
        Ok(Self {
            login_url: ours.to_owned(),
            tenant: token.tenant.clone(),
            client_id: token.client_id.clone(),
            credential,
            secret_of_token,
            scopes: token.scope.split_whitespace().map(str::to_owned).collect(),
        })
    }

    fn address(&self, end: &str) -> String {
        format!("{}/{}/oauth2/v2.0/{end}", self.login_url, self.tenant)
    }

    /// What the application shows of itself in the requests to come.
    async fn proof(&self) -> Result<Proof, TokenError> {
        let claims = Claims::new(&self.address("token"), &self.client_id, SystemTime::now());
        let credential = self.credential.clone();
        tokio::task::spawn_blocking(move || credential.prove(&claims))
            .await
            .map_err(|error| TokenError::Store(std::io::Error::other(error)))?
    }
}

impl Endpoint {
    /// The endpoint as `registration` speaks to it, with the claims that a sign-in has to show.
    pub(super) async fn open(
        config: &AuthConfig,
        registration: &Registration,
        claims: Option<&str>,
    ) -> Result<Self, TokenError> {
        let odd = |error: url::ParseError| {
            TokenError::Configuration(format!("drive.login_url is no address: {error}"))
        };
        let address = |end| registration.address(end);
        let mut client = oauth2::Client::new(ClientId::new(registration.client_id.clone()))
            .set_auth_uri(AuthUrl::new(address("authorize")).map_err(odd)?)
            .set_token_uri(TokenUrl::new(address("token")).map_err(odd)?)
            .set_device_authorization_url(
                DeviceAuthorizationUrl::new(address("devicecode")).map_err(odd)?,
            )
            .set_auth_type(AuthType::RequestBody);
        let mut extras = Vec::new();
        match registration.proof().await? {
            Proof::None => {}
            Proof::Secret(secret) => {
                let secret = ClientSecret::new(secret.expose_secret().to_owned());
                client = client.set_client_secret(secret);
            }
            Proof::Assertion(text) => {
                let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
                extras.push(("client_assertion_type", kind.to_owned()));
                extras.push(("client_assertion", text));
            }
        }
        extras.extend(claims.map(|claims| ("claims", claims.to_owned())));
        let scopes = registration.scopes.iter().cloned().map(Scope::new);
        Ok(Self {
            client,
            http: Carrier::new(config)?,
            scopes: scopes.collect(),
            extras,
        })
    }

    pub(super) fn scopes(&self) -> impl Iterator<Item = Scope> {
        self.scopes.clone().into_iter()
    }

    /// What every request to the token endpoint carries.
    pub(super) fn extras(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.extras.clone().into_iter()
    }

    /// Exchanges a refresh token.
    pub(super) async fn refresh(&self, token: &SecretString) -> Result<Reply, TokenError> {
        let token = RefreshToken::new(token.expose_secret().to_owned());
        let mut request = self
            .client
            .exchange_refresh_token(&token)
            .add_scopes(self.scopes());
        for (name, value) in self.extras() {
            request = request.add_extra_param(name, value);
        }
        let reply = request.request_async(&self.http).await;
        reply.map_err(|error| self.explain(error))
    }

    /// Signs the application itself in.
    pub(super) async fn app(&self) -> Result<Reply, TokenError> {
        let mut request = self
            .client
            .exchange_client_credentials()
            .add_scopes(self.scopes());
        for (name, value) in self.extras() {
            request = request.add_extra_param(name, value);
        }
        let reply = request.request_async(&self.http).await;
        reply.map_err(|error| self.explain(error))
    }

    /// What a failed exchange means.
    pub(super) fn explain<T: ErrorResponseType + std::fmt::Display + Serialize>(
        &self,
        error: RequestTokenError<HttpTrouble, StandardErrorResponse<T>>,
    ) -> TokenError {
        match error {
            RequestTokenError::ServerResponse(told) => {
                let name = serde_json::to_value(told.error()).ok();
                let name = name
                    .as_ref()
                    .and_then(|name| name.as_str())
                    .unwrap_or_default();
                let last = self.http.refusal();
                // The crate ends a device sign-in by itself, in the service's words.
                let claims = last.claims.filter(|_| last.error == name);
                judge(&Refusal {
                    error: name.to_owned(),
                    description: told.error_description().cloned().unwrap_or_default(),
                    claims,
                })
            }
            RequestTokenError::Request(trouble) => TokenError::Unavailable {
                what: trouble.what,
                retry_after: trouble.retry_after,
            },
            // Gateways answer in HTML, or with nothing: nothing is known of the token then.
            RequestTokenError::Parse(..) => TokenError::unavailable("its reply cannot be read"),
            RequestTokenError::Other(what) => TokenError::unavailable(what),
        }
    }
}

/// A reply as a token to keep. A reply without a refresh token leaves the old one (section 2.3).
pub(super) fn kept(
    reply: &Reply,
    registration: &Registration,
    old: Option<&StoredToken>,
    now: SystemTime,
) -> StoredToken {
    let refresh = reply
        .refresh_token()
        .map(|token| SecretString::from(token.secret().clone()));
    let told = reply.extra_fields().refresh_token_expires_in.as_ref();
    let told = told.and_then(|told| told.as_u64().or_else(|| told.as_str()?.parse().ok()));
    StoredToken {
        login_url: registration.login_url.clone(),
        tenant: registration.tenant.clone(),
        client_id: registration.client_id.clone(),
        client_secret: registration.secret_of_token.clone(),
        scope: registration.scopes.join(" "),
        refresh_token: refresh
            .or_else(|| old.map(|old| old.refresh_token.clone()))
            .unwrap_or_else(|| SecretString::from(String::new())),
        access_token: reply.access_token().secret().clone().into(),
        expires_at: now + reply.expires_in().unwrap_or(USUAL_LIFE).min(LONGEST_LIFE),
        refreshed_at: now,
        told_end: told.map(|left| now + Duration::from_secs(left.min(1 << 32))),
    }
}

/// A sign-in that was narrowed by the person, or by the tenant, to reading alone (section 2.2).
pub(super) fn may_write(reply: &Reply) -> Result<(), TokenError> {
    let Some(granted) = reply.scopes() else {
        return Ok(());
    };
    let writes = |scope: &Scope| {
        let scope = scope.to_lowercase();
        ["readwrite", "manage.all", "fullcontrol", ".default"]
            .iter()
            .any(|it| scope.contains(it))
    };
    if granted.is_empty() || granted.iter().any(writes) {
        return Ok(());
    }
    let granted: Vec<&str> = granted.iter().map(|scope| scope.as_str()).collect();
    Err(TokenError::Configuration(format!(
        "the sign-in allows no writing, only: {} (give the app the delegated permission Files.ReadWrite.All)",
        granted.join(" ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(extra: &str) -> Reply {
        let text = format!(
            r#"{{"token_type":"Bearer","access_token":"a","refresh_token":"r","expires_in":3599{extra}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn registration() -> Registration {
        Registration::of(&AuthConfig {
            login_url: "https://login.test/".into(),
            ..AuthConfig::default()
        })
    }

    #[test]
    fn the_end_of_a_sign_in_is_kept_where_it_is_told() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(1000);
        let end = |extra: &str| kept(&reply(extra), &registration(), None, now).told_end;
        assert_eq!(end(""), None);
        let day = Some(now + Duration::from_hours(24));
        assert_eq!(end(r#","refresh_token_expires_in":86400"#), day);
        assert_eq!(end(r#","refresh_token_expires_in":"86400""#), day);
        assert_eq!(end(r#","refresh_token_expires_in":{}"#), None);
    }

    #[test]
    fn a_life_without_end_is_not_believed() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(1000);
        let text = format!(
            r#"{{"token_type":"Bearer","access_token":"a","expires_in":{}}}"#,
            u64::MAX
        );
        let reply: Reply = serde_json::from_str(&text).unwrap();
        let token = kept(&reply, &registration(), None, now);
        assert_eq!(token.expires_at, now + LONGEST_LIFE);
    }

    #[test]
    fn a_sign_in_has_to_allow_writing() {
        let may = |scope: &str| may_write(&reply(&format!(r#","scope":"{scope}""#))).is_ok();
        for scope in [
            "Files.ReadWrite.All",
            "https://graph.microsoft.us/Files.ReadWrite User.Read",
            "Sites.FullControl.All",
        ] {
            assert!(may(scope), "{scope}");
        }
        for scope in ["Files.Read.All offline_access", "User.Read"] {
            assert!(!may(scope), "{scope}");
        }
        assert!(may_write(&reply("")).is_ok(), "not told is not refused");
    }
}
