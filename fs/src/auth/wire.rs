//! The token endpoint, through the `oauth2` crate over our own HTTP client.

use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use oauth2::basic::{BasicClient, BasicErrorResponse, BasicRequestTokenError, BasicTokenResponse};
use oauth2::{
    AuthType, AuthUrl, ClientId, ClientSecret, DeviceAuthorizationUrl, EndpointNotSet, EndpointSet,
    ErrorResponseType, HttpRequest, HttpResponse, RefreshToken, Scope, TokenResponse, TokenUrl,
};
use secrecy::{ExposeSecret, SecretString};

use super::errors::{TokenError, judge};
use super::{AuthConfig, StoredToken};

/// A reply of the token endpoint is a few kilobytes.
const BODY_LIMIT: usize = 1 << 20;

/// The whole of one request to the login authority.
const PATIENCE: Duration = Duration::from_secs(30);

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
        let plain = |error: reqwest::Error| {
            let error = error.without_url();
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            HttpTrouble(cause.map_or(error.to_string(), |cause| format!("{error}: {cause}")))
        };
        let request = reqwest::Request::try_from(request).map_err(plain)?;
        let mut response = self.0.execute(request).await.map_err(plain)?;
        let status = response.status();
        if status.is_server_error() {
            return Err(HttpTrouble(format!("it answered {status}")));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(plain)? {
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

impl Endpoint {
    pub(super) fn new(
        config: &AuthConfig,
        client_id: &str,
        secret: Option<&SecretString>,
        tenant: &str,
    ) -> Result<Self, TokenError> {
        let wrong = |what: String| TokenError::Configuration(what);
        let base = format!(
            "{}/{tenant}/oauth2/v2.0",
            config.login_url.trim_end_matches('/')
        );
        let address = |end: &str| format!("{base}/{end}");
        let odd = |error: url::ParseError| wrong(format!("drive.login_url is no address: {error}"));
        let mut client = BasicClient::new(ClientId::new(client_id.to_owned()))
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
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE);
        if let Some(pem) = &config.ca_pem {
            let certificates = reqwest::Certificate::from_pem_bundle(pem)
                .map_err(|error| wrong(format!("drive.ca_file holds no certificate: {error}")))?;
            for certificate in certificates {
                http = http.add_root_certificate(certificate);
            }
        }
        let http = http
            .build()
            .map_err(|error| wrong(format!("cannot set up TLS: {error}")))?;
        let scopes = config.scopes().into_iter().map(Scope::new).collect();
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

pub(super) fn explain(error: BasicRequestTokenError<HttpTrouble>) -> TokenError {
    match error {
        oauth2::RequestTokenError::ServerResponse(refusal) => explain_refusal(&refusal),
        oauth2::RequestTokenError::Request(trouble) => TokenError::Unavailable(trouble.0),
        // Gateways answer in HTML: nothing is known of the token then.
        oauth2::RequestTokenError::Parse(..) => {
            TokenError::Unavailable("its reply cannot be read".into())
        }
        oauth2::RequestTokenError::Other(what) => TokenError::Unavailable(what),
    }
}

fn explain_refusal(refusal: &BasicErrorResponse) -> TokenError {
    let name = error_name(refusal.error());
    judge(
        &name,
        refusal.error_description().map_or("", String::as_str),
    )
}

pub(super) fn error_name<E: ErrorResponseType + serde::Serialize>(error: &E) -> String {
    let text = serde_json::to_value(error).ok();
    text.and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

/// A reply as a token to keep. A reply without a refresh token leaves the old one (section 2.3).
pub(super) fn keep(
    reply: &BasicTokenResponse,
    client_id: &str,
    client_secret: Option<SecretString>,
    tenant: &str,
    old: Option<&SecretString>,
    now: SystemTime,
) -> StoredToken {
    let refresh = reply
        .refresh_token()
        .map(|token| token.secret().clone().into());
    StoredToken {
        client_id: client_id.to_owned(),
        client_secret,
        tenant: tenant.to_owned(),
        refresh_token: refresh
            .or_else(|| old.cloned())
            .unwrap_or_else(|| SecretString::from(String::new())),
        access_token: reply.access_token().secret().clone().into(),
        expires_at: now + reply.expires_in().unwrap_or(USUAL_LIFE),
        refreshed_at: now,
    }
}
