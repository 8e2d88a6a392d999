//! The control client and the admin node, over streams in memory.

use std::sync::Arc;

use neo_admin::{Admin, AdminBuilder, AdminSettings, Control, ControlError};
use neo_api::{Address, SystemEnv, Transport};
use neo_proto::net::MemoryNetwork;
use tokio::io::AsyncWriteExt;

fn builder(network: &MemoryNetwork) -> AdminBuilder {
    Admin::builder(settings())
        .bind(Address::new("admin", 0))
        .transport(Arc::new(network.clone()))
}

fn settings() -> AdminSettings {
    AdminSettings {
        cluster: "test".to_owned(),
        masters: vec![Address::new("nobody", 1)],
        nid: None,
    }
}

async fn connect(network: &MemoryNetwork, to: &Address) -> Result<Control, ControlError> {
    let (transport, env) = (Arc::new(network.clone()), Arc::new(SystemEnv::new()));
    Control::connect_over(transport, env, to).await
}

#[tokio::test]
async fn an_admin_node_without_a_primary_says_so() {
    let network = MemoryNetwork::new();
    let admin = builder(&network).start().await.unwrap();
    let control = connect(&network, admin.address()).await.unwrap();
    assert_eq!(control.primary().await, Ok(None));
    let why = "not connected to a primary master: nobody:1: nobody listens at nobody:1".to_owned();
    let cluster = control.cluster().await.unwrap();
    assert_eq!((cluster.state, &cluster.waiting), (None, &why));
    let not_ready = ControlError::NotReady(why);
    assert_eq!(control.last_ids().await, Err(not_ready.clone()));
    assert_eq!(control.start().await, Err(not_ready));

    // Several at once, on one connection.
    let (a, b) = tokio::join!(control.cluster(), control.primary());
    assert_eq!((a, b), (Ok(cluster), Ok(None)));

    admin.stop().await.unwrap();
    let error = control.cluster().await.unwrap_err();
    assert!(matches!(error, ControlError::Lost { .. }), "{error}");
}

#[tokio::test]
async fn nobody_there_and_something_else_there_are_errors() {
    let network = MemoryNetwork::new();
    let error = connect(&network, &Address::new("admin", 9))
        .await
        .unwrap_err();
    assert!(matches!(error, ControlError::Connect { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.starts_with("cannot connect to the admin node at admin:9: "),
        "{text}"
    );

    let mut listener = network.bind(&Address::new("web", 80)).await.unwrap();
    let web = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        stream
    });
    let error = connect(&network, &Address::new("web", 80))
        .await
        .unwrap_err();
    assert!(matches!(error, ControlError::Connect { .. }), "{error}");
    drop(web.await);
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let network = MemoryNetwork::new();
    let admin = builder(&network).start().await.unwrap();
    let address = admin.address();
    let again = builder(&network).bind(address.clone()).start();
    let error = again.await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen at {address}"));
}
