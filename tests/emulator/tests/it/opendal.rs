//! The emulator as the OneDrive service of Apache `OpenDAL` sees it: a client that nobody here wrote.
//! It knows the service's own host names only; its transport takes them to the emulator. It reads
//! the paths of personal drives only, so those it is shown.

use graph_emulator::Profile;
use http::{Request, Response};
use opendal_core::{
    Buffer, Error, ErrorKind, HttpBody, HttpTransport, HttpTransporter, OperationContext, Operator,
    Result,
};
use opendal_service_onedrive::Onedrive;

use super::client::{self, Signed};

/// Takes the service's host names to the emulator, and follows redirects as every browser does.
struct Detour {
    http: reqwest::Client,
    hosts: [(&'static str, String); 2],
}

impl HttpTransport for Detour {
    async fn fetch(&self, request: Request<Buffer>) -> Result<Response<HttpBody>> {
        let failed = |error: reqwest::Error| Error::new(ErrorKind::Unexpected, error.to_string());
        let (parts, body) = request.into_parts();
        let mut url = parts.uri.to_string();
        for (host, here) in &self.hosts {
            url = url.replacen(host, here, 1);
        }
        let sent = self
            .http
            .request(parts.method, url)
            .headers(parts.headers)
            .body(body.to_bytes());
        let response = sent.send().await.map_err(failed)?;
        let mut answer = Response::builder().status(response.status());
        if let Some(headers) = answer.headers_mut() {
            headers.clone_from(response.headers());
        }
        let length = response.content_length();
        let bytes = response.bytes().await.map_err(failed)?;
        let stream = futures_util::stream::once(std::future::ready(Ok(Buffer::from(bytes))));
        Ok(answer
            .body(HttpBody::new(Box::pin(stream), length))
            .expect("status and headers are another response's"))
    }
}

/// Signed in by a refresh token, so that the first call has to renew it.
fn operator(signed: &Signed) -> Operator {
    let emulator = &signed.emulator;
    let pair = emulator.issue_token("opendal");
    let service = Onedrive::default()
        .root("/pictures")
        .refresh_token(&pair.refresh_token)
        .client_id("opendal")
        .client_secret("");
    let detour = Detour {
        http: reqwest::Client::builder().no_proxy().build().unwrap(),
        hosts: [
            (
                "https://graph.microsoft.com",
                emulator.graph_url().to_owned(),
            ),
            (
                "https://login.microsoftonline.com",
                emulator.login_url().to_owned(),
            ),
        ],
    };
    let context = OperationContext::new().with_http_transport(HttpTransporter::new(detour));
    Operator::new(service).unwrap().with_context(context)
}

async fn names(operator: &Operator, dir: &str) -> Vec<String> {
    let mut names: Vec<String> = operator
        .list(dir)
        .await
        .unwrap()
        .iter()
        .map(|entry| entry.path().to_owned())
        .filter(|path| path != dir)
        .collect();
    names.sort();
    names
}

async fn works_on(profile: Profile) {
    let signed = client::on(profile).await;
    let operator = operator(&signed);
    signed.emulator.make_folder("pictures").unwrap();
    operator.create_dir("2026/").await.unwrap();
    operator.create_dir("2026/11/").await.unwrap();
    let small = b"GIF89a small".to_vec();
    operator
        .write("2026/11/a b#1.gif", small.clone())
        .await
        .unwrap();
    // Above what goes in one request: an upload session.
    let large: Vec<u8> = (0..=250u8).cycle().take(5_000_000).collect();
    operator
        .write("2026/11/large.bin", large.clone())
        .await
        .unwrap();
    assert_eq!(
        names(&operator, "2026/11/").await,
        ["2026/11/a b#1.gif", "2026/11/large.bin"]
    );
    let there = |path: &str| signed.emulator.read_file(&format!("pictures/{path}"));
    assert_eq!(there("2026/11/a b#1.gif"), Some(small.clone()));
    assert_eq!(there("2026/11/large.bin"), Some(large.clone()));

    let told = operator.stat("2026/11/large.bin").await.unwrap();
    assert_eq!(told.content_length(), 5_000_000);
    let read = operator.read("2026/11/a b#1.gif").await.unwrap();
    assert_eq!(read.to_vec(), small);
    let part = operator
        .read_with("2026/11/large.bin")
        .range(4_000_000..4_100_000)
        .await
        .unwrap();
    assert_eq!(part.to_vec(), &large[4_000_000..4_100_000]);

    operator
        .rename("2026/11/a b#1.gif", "2026/c.gif")
        .await
        .unwrap();
    assert_eq!(names(&operator, "2026/").await, ["2026/11/", "2026/c.gif"]);
    operator.delete("2026/c.gif").await.unwrap();
    let gone = operator.stat("2026/c.gif").await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    assert_eq!(there("2026/c.gif"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn opendal_writes_lists_reads_and_removes_on_a_drive_of_the_old_kind() {
    works_on(Profile::PersonalClassic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn opendal_writes_lists_reads_and_removes_on_a_personal_drive() {
    works_on(Profile::PersonalMigrated).await;
}
