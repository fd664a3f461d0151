//! Names that a drive refuses, and names that are one.

use graph_emulator::Profile;

use crate::client::{on, refused};

#[tokio::test]
async fn forbidden_names_are_400_with_a_code_that_says_why() {
    let drive = on(Profile::Business).await;
    for name in [
        "a%3Ab", "a%2Ab", "%20a", "a%20", "a.", "CON", "~$a.docx", "_vti_x", "a%7F",
    ] {
        let response = drive.put(name, b"x").await;
        assert_eq!(
            refused(response).await,
            (400, "invalidPath".to_owned()),
            "{name}"
        );
    }
    let long = "n".repeat(200);
    drive.emulator.make_folder(&long).unwrap();
    let response = drive.put(&format!("{long}/{long}"), b"x").await;
    assert_eq!(refused(response).await, (400, "pathIsTooLong".to_owned()));
    assert_eq!(drive.put("a%23b%25c%2B.txt", b"x").await.status(), 201);
    assert!(drive.emulator.node("a#b%c+.txt").is_some());
}

#[tokio::test]
async fn a_name_that_differs_in_case_alone_replaces_and_keeps_the_stored_form() {
    let drive = on(Profile::PersonalClassic).await;
    assert_eq!(drive.put("ReadMe.txt", b"one").await.status(), 201);
    assert_eq!(drive.put("README.TXT", b"two").await.status(), 200);
    assert_eq!(drive.emulator.node("ReadMe.txt").unwrap().versions, 2);
    assert_eq!(drive.emulator.tree().len(), 1);
}
