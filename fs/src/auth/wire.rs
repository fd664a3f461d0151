//! The token endpoint, through the `oauth2` crate over our own HTTP client.

use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use oauth2::basic::{BasicClient, BasicTokenResponse};
use oauth2::{
    AuthType, AuthUrl, ClientId, ClientSecret, DeviceAuthorizationUrl, EndpointNotSet, EndpointSet,
    ErrorResponseType, HttpRequest, HttpResponse, RefreshToken, RequestTokenError, Scope,
    StandardErrorResponse, TokenResponse, TokenUrl,
};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use super::errors::{TokenError, judge};
use super::{AuthConfig, StoredToken};

/// A reply of the token endpoint is a few kilobytes.
const BODY_LIMIT: usize = 1 << 20;

/// The whole of one request to the login authority.
const PATIENCE: Duration = Duration::from_secs(30);

/// Time to reach the login authority.
const CONNECT: Duration = Duration::from_secs(10);

/// What an access token lives when the service does not say: the shortest that is usual.
const USUAL_LIFE: Duration = Duration::from_hours(1);

pub(super) type Client =
    BasicClient<EndpointSet, EndpointSet, EndpointNotSet, EndpointNotSet, EndpointSet>;

/// The login authority of one configuration.
pub(super) struct Endpoint {
    pub(super) client: Client,
    pub(super) http: Carrier,
    scopes: Vec<Scope>,
}

/// What went wrong below OAuth.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct HttpTrouble(String);

/// Carries the crate's requests over our own HTTP client.
pub(super) struct Carrier(reqwest::Client);

impl<'c> oauth2::AsyncHttpClient<'c> for Carrier {
    type Error = HttpTrouble;
    type Future = BoxFuture<'c, Result<HttpResponse, HttpTrouble>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.carry(request))
    }
}

impl Carrier {
    /// Carries one request of the crate's.
    async fn carry(&self, request: HttpRequest) -> Result<HttpResponse, HttpTrouble> {
        let request = reqwest::Request::try_from(request).map_err(trouble)?;
        let mut response = self.0.execute(request).await.map_err(trouble)?;
        let status = response.status();
        // Trouble of its own, and throttling: whatever the body says, it is not about the token.
        if status.is_server_error() || [408, 429].contains(&status.as_u16()) {
            return Err(HttpTrouble(format!("it answered {status}")));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(trouble)? {
            if body.len() + chunk.len() > BODY_LIMIT {
                return Err(HttpTrouble("its reply is too long".into()));
            }
            body.extend_from_slice(&chunk);
        }
        let mut reply = http::Response::builder().status(status);
        if let Some(kind) = response.headers().get(http::header::CONTENT_TYPE) {
            reply = reply.header(http::header::CONTENT_TYPE, kind);
        }
        reply
            .body(body)
            .map_err(|error| HttpTrouble(error.to_string()))
    }
}

fn trouble(error: reqwest::Error) -> HttpTrouble {
    HttpTrouble(plain(error))
}

/// What went wrong on the network, without the URL, which may be a secret.
pub(crate) fn plain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut at = std::error::Error::source(&error);
    while let Some(cause) = at {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        at = cause.source();
    }
    text
}

/// The application on whose behalf the login authority is asked.
pub(super) struct Registration {
    pub(super) login_url: String,
    pub(super) tenant: String,
    pub(super) client_id: String,
    /// From the settings, or from the token that it came along with.
    secret: Option<SecretString>,
    /// Whether that secret has to be kept with the token.
    secret_of_token: bool,
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
            secret: config.client_secret.clone(),
            secret_of_token: false,
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
            return Err(TokenError::SignIn(format!(
                "the stored token is of {}, drive.login_url is {ours}: sign in there",
                token.login_url
            )));
        }
        // The settings' secret is the one that a person renews when it has expired.
        let own = token.client_id == config.client_id;
        let configured = config.client_secret.as_ref().filter(|_| own);
        Ok(Self {
            login_url: ours.to_owned(),
            tenant: token.tenant.clone(),
            client_id: token.client_id.clone(),
            secret: configured.or(token.client_secret.as_ref()).cloned(),
            secret_of_token: configured.is_none(),
            scopes: token.scope.split_whitespace().map(str::to_owned).collect(),
        })
    }
}

impl Endpoint {
    pub(super) fn new(
        config: &AuthConfig,
        registration: &Registration,
    ) -> Result<Self, TokenError> {
        let wrong = |what: String| TokenError::Configuration(what);
        let Registration {
            login_url,
            tenant,
            client_id,
            secret,
            ..
        } = registration;
        let address = |end: &str| format!("{login_url}/{tenant}/oauth2/v2.0/{end}");
        let odd = |error: url::ParseError| wrong(format!("drive.login_url is no address: {error}"));
        let mut client = BasicClient::new(ClientId::new(client_id.clone()))
            .set_auth_uri(AuthUrl::new(address("authorize")).map_err(odd)?)
            .set_token_uri(TokenUrl::new(address("token")).map_err(odd)?)
            .set_device_authorization_url(
                DeviceAuthorizationUrl::new(address("devicecode")).map_err(odd)?,
            )
            .set_auth_type(AuthType::RequestBody);
        if let Some(secret) = secret {
            client = client.set_client_secret(ClientSecret::new(secret.expose_secret().to_owned()));
        }
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("tuyunfs/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .timeout(PATIENCE);
        if let Some(pem) = &config.ca_pem {
            let certificates = reqwest::Certificate::from_pem_bundle(pem)
                .map_err(|error| wrong(format!("drive.ca_file holds no certificate: {error}")))?;
            // A file of another form (DER, a key) reads as an empty bundle.
            if certificates.is_empty() {
                return Err(wrong(
                    "drive.ca_file holds no certificate in PEM form".into(),
                ));
            }
            for certificate in certificates {
                http = http.add_root_certificate(certificate);
            }
        }
        let http = http
            .build()
            .map_err(|error| wrong(format!("cannot set up TLS: {error}")))?;
        let scopes = registration
            .scopes
            .iter()
            .cloned()
            .map(Scope::new)
            .collect();
        Ok(Self {
            client,
            http: Carrier(http),
            scopes,
        })
    }

    pub(super) fn scopes(&self) -> impl Iterator<Item = Scope> {
        self.scopes.clone().into_iter()
    }

    /// Exchanges a refresh token.
    pub(super) async fn refresh(
        &self,
        token: &SecretString,
    ) -> Result<BasicTokenResponse, TokenError> {
        let token = RefreshToken::new(token.expose_secret().to_owned());
        self.client
            .exchange_refresh_token(&token)
            .add_scopes(self.scopes())
            .request_async(&self.http)
            .await
            .map_err(explain)
    }

    /// Signs the application itself in.
    pub(super) async fn app(&self) -> Result<BasicTokenResponse, TokenError> {
        self.client
            .exchange_client_credentials()
            .add_scopes(self.scopes())
            .request_async(&self.http)
            .await
            .map_err(explain)
    }
}

/// What a failed exchange means.
pub(super) fn explain<T: ErrorResponseType + std::fmt::Display + Serialize>(
    error: RequestTokenError<HttpTrouble, StandardErrorResponse<T>>,
) -> TokenError {
    match error {
        RequestTokenError::ServerResponse(refusal) => {
            let name = serde_json::to_value(refusal.error()).ok();
            let name = name
                .as_ref()
                .and_then(|name| name.as_str())
                .unwrap_or_default();
            judge(name, refusal.error_description().map_or("", String::as_str))
        }
        RequestTokenError::Request(trouble) => TokenError::Unavailable(trouble.0),
        // Gateways answer in HTML, or with nothing: nothing is known of the token then.
        RequestTokenError::Parse(..) => TokenError::Unavailable("its reply cannot be read".into()),
        RequestTokenError::Other(what) => TokenError::Unavailable(what),
    }
}

/// A reply as a token to keep. A reply without a refresh token leaves the old one (section 2.3).
pub(super) fn kept(
    reply: &BasicTokenResponse,
    registration: &Registration,
    old: Option<&StoredToken>,
    now: SystemTime,
) -> StoredToken {
    let refresh = reply
        .refresh_token()
        .map(|token| SecretString::from(token.secret().clone()));
    let secret = registration
        .secret
        .clone()
        .filter(|_| registration.secret_of_token);
    StoredToken {
        login_url: registration.login_url.clone(),
        tenant: registration.tenant.clone(),
        client_id: registration.client_id.clone(),
        client_secret: secret,
        scope: registration.scopes.join(" "),
        refresh_token: refresh
            .or_else(|| old.map(|old| old.refresh_token.clone()))
            .unwrap_or_else(|| SecretString::from(String::new())),
        access_token: reply.access_token().secret().clone().into(),
        expires_at: now + reply.expires_in().unwrap_or(USUAL_LIFE),
        refreshed_at: now,
    }
}

/// A sign-in that was narrowed by the person, or by the tenant, to reading alone (section 2.2).
pub(super) fn may_write(reply: &BasicTokenResponse) -> Result<(), TokenError> {
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
