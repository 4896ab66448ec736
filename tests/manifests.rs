//! The manifests in k8s/base say what the programs do: command lines parse with the real parsers, exit codes are the
//! worker's, selectors find pods, and pods are as confined as the namespace demands.
//!
//! No cluster and no kubectl here; `make manifests` renders and validates against the schemas.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use polya_proto::exit;
use serde::Deserialize;
use serde_json::{Value, json};

#[test]
fn the_base_lists_every_manifest() {
    let listed: Vec<String> = list(&kustomization()["resources"]).iter().map(text).collect();
    for entry in fs::read_dir(base()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".yaml") && name != "kustomization.yaml" {
            assert!(listed.contains(&name), "{name} is not a resource of kustomization.yaml");
        }
    }
}

#[test]
fn the_coordinator_starts_with_a_command_line_that_it_understands() {
    let (folder, runs) = empty_runs();
    let output = run_coordinator_script(&runs, &folder, &["--print-config"], None);
    assert!(output.status.success(), "{output:?}");
    // The values of run.toml have arrived: the configuration that is printed says where they came from.
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("run.toml"), "{printed}");
}

#[test]
fn the_coordinator_resumes_where_a_journal_lies_and_moves_a_folder_without_one_aside() {
    let (folder, runs) = empty_runs();
    let stub = folder.path().join("bin");
    fs::create_dir(&stub).unwrap();
    fs::write(stub.join("coordinator"), "#!/bin/sh\necho \"$@\"\n").unwrap();
    assert!(Command::new("chmod").arg("+x").arg(stub.join("coordinator")).status().unwrap().success());
    let arguments = |output: Output| -> Vec<String> {
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().split_whitespace().map(str::to_owned).collect()
    };

    let run = runs.join("polya");
    fs::create_dir(&run).unwrap();
    fs::write(run.join("run.toml"), "").unwrap();
    let started = arguments(run_coordinator_script(&runs, &folder, &[], Some(&stub)));
    assert_eq!(started[..2], ["--run-dir".to_owned(), run.display().to_string()]);
    assert!(!run.exists(), "a folder without a journal would be refused as not empty");

    fs::create_dir(&run).unwrap();
    fs::write(run.join("journal"), "").unwrap();
    let mut resumed = arguments(run_coordinator_script(&runs, &folder, &[], Some(&stub)));
    assert_eq!(resumed[..2], ["--resume".to_owned(), run.display().to_string()]);
    resumed.push("--help".into());
    assert_understood("coordinator", &resumed);
}

#[test]
fn the_worker_is_started_with_a_command_line_that_it_understands() {
    let mut arguments: Vec<String> = list(&container(&job())["args"]).iter().map(text).collect();
    assert_eq!(list(&container(&job())["command"]), [json!("worker")]);
    assert!(arguments.contains(&"--coordinator=coordinator:7070".to_owned()), "the Service's name and port");
    arguments.push("--help".into());
    assert_understood("worker", &arguments);
}

#[test]
fn the_exit_codes_are_the_workers() {
    let spec = &job()["spec"];
    let mut actions: Vec<(String, Vec<i64>)> = Vec::new();
    for rule in list(&spec["podFailurePolicy"]["rules"]) {
        if let Some(codes) = rule["onExitCodes"].as_object() {
            assert_eq!(codes["containerName"], "worker");
            assert_eq!(codes["operator"], "In");
            actions.push((
                text(&rule["action"]),
                list(&codes["values"]).iter().map(|code| code.as_i64().unwrap()).collect(),
            ));
        } else {
            assert_eq!(rule["action"], "Ignore");
            assert_eq!(rule["onPodConditions"], json!([{"type": "DisruptionTarget", "status": "True"}]));
        }
    }
    let expected = [
        ("FailJob".to_owned(), vec![i64::from(exit::USAGE), i64::from(exit::REFUSED)]),
        ("Ignore".to_owned(), vec![i64::from(exit::LEFT)]),
    ];
    assert_eq!(actions, expected);
    assert_eq!(exit::FINISHED, 0, "the Job's success policy takes 0 for a finished run");
}

#[test]
fn the_job_can_grow_and_shrink_and_ends_with_the_run() {
    let spec = &job()["spec"];
    assert_eq!(spec["completionMode"], "Indexed");
    assert_eq!(spec["completions"], spec["parallelism"]);
    assert_eq!(spec["successPolicy"], json!({"rules": [{"succeededCount": 1}]}));
    assert_eq!(spec["podReplacementPolicy"], "Failed");
    assert!(spec["backoffLimit"].is_u64() && spec["backoffLimitPerIndex"].is_null());
    assert_eq!(spec["template"]["spec"]["restartPolicy"], "Never");
}

#[test]
fn pods_are_confined() {
    for owner in [coordinator(), job()] {
        let pod = &owner["spec"]["template"]["spec"];
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert_eq!(pod["enableServiceLinks"], false);
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert!(pod["securityContext"]["runAsUser"].as_u64().unwrap() > 0);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        for field in ["hostNetwork", "hostPID", "hostIPC"] {
            assert!(pod[field].is_null(), "{field}");
        }
        let container = container(&owner);
        assert_eq!(list(&pod["containers"]).len(), 1);
        assert_eq!(
            container["securityContext"],
            json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}})
        );
        let kinds = ["configMap", "secret", "emptyDir"];
        for volume in list(&pod["volumes"]) {
            assert!(kinds.iter().any(|kind| volume.get(kind).is_some()), "the restricted level refuses {volume}");
        }
        assert!(list(&container["volumeMounts"]).iter().any(|mount| mount["mountPath"] == "/tmp"));
        for mount in list(&container["volumeMounts"]) {
            let name = &mount["name"];
            let claimed =
                list(&owner["spec"]["volumeClaimTemplates"]).iter().any(|claim| &claim["metadata"]["name"] == name);
            assert!(claimed || list(&pod["volumes"]).iter().any(|volume| &volume["name"] == name), "no volume {name}");
        }
    }
    let namespace = one("Namespace", "polya");
    assert_eq!(namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted");
    for account in documents().iter().filter(|document| document["kind"] == "ServiceAccount") {
        assert_eq!(account["automountServiceAccountToken"], false);
    }
}

#[test]
fn what_is_asked_for_is_what_is_allowed() {
    for owner in [coordinator(), job()] {
        let resources = &container(&owner)["resources"];
        assert!(resources["limits"]["cpu"].is_null(), "a CPU limit only slows down");
        for (name, limit) in resources["limits"].as_object().unwrap() {
            assert_eq!(&resources["requests"][name], limit, "{name}");
        }
    }
    assert_eq!(container(&job())["resources"]["limits"]["nvidia.com/gpu"], "1", "one pod a GPU");
    let pod = &job()["spec"]["template"]["spec"];
    assert_eq!(pod["tolerations"], json!([{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]));
    for constraint in list(&pod["topologySpreadConstraints"]) {
        assert_eq!(constraint["whenUnsatisfiable"], "ScheduleAnyway");
    }
    let shm = list(&pod["volumes"]).into_iter().find(|volume| volume["name"] == "shm").unwrap();
    assert_eq!(shm["emptyDir"]["medium"], "Memory");
}

#[test]
fn selectors_find_the_pods_and_names_exist() {
    let labels = |owner: &Value| owner["spec"]["template"]["metadata"]["labels"].clone();
    let pods = [labels(&coordinator()), labels(&job())];
    let mut selectors = vec![coordinator()["spec"]["selector"]["matchLabels"].clone()];
    for document in documents() {
        match document["kind"].as_str().unwrap() {
            "Service" => selectors.push(document["spec"]["selector"].clone()),
            "PodDisruptionBudget" => selectors.push(document["spec"]["selector"]["matchLabels"].clone()),
            "NetworkPolicy" => peers(&document["spec"], &mut selectors),
            _ => {}
        }
    }
    assert!(selectors.len() > 6);
    for selector in selectors {
        let wanted = selector.as_object().unwrap();
        let found = pods.iter().filter(|pod| wanted.iter().all(|(key, value)| &pod[key] == value)).count();
        assert_eq!(found, 1, "{selector} should find the coordinator or the workers");
    }
    assert_eq!(coordinator()["spec"]["serviceName"], one("Service", "coordinator")["metadata"]["name"]);
    assert_eq!(job()["spec"]["template"]["spec"]["subdomain"], one("Service", "workers")["metadata"]["name"]);
    for owner in [coordinator(), job()] {
        one("ServiceAccount", &text(&owner["spec"]["template"]["spec"]["serviceAccountName"]));
    }
    assert!(one("PodDisruptionBudget", "workers")["spec"]["minAvailable"].is_u64(), "a share blocks every drain");
}

#[test]
fn the_port_is_one_and_the_same() {
    let container = container(&coordinator());
    let port = &container["ports"][0];
    assert_eq!(port["name"], "grpc");
    let number = port["containerPort"].as_u64().unwrap();
    assert!(list(&container["args"]).contains(&json!(format!("--listen=0.0.0.0:{number}"))));
    let service = &one("Service", "coordinator")["spec"]["ports"][0];
    assert_eq!((&service["port"], &service["targetPort"]), (&json!(number), &json!("grpc")));
    for probe in ["startupProbe", "readinessProbe"] {
        assert_eq!(container[probe]["tcpSocket"]["port"], "grpc");
    }
    let policy = one("NetworkPolicy", "workers");
    assert!(list(&policy["spec"]["egress"]).iter().any(|rule| rule["ports"][0]["port"] == json!(number)));
}

#[test]
fn configuration_is_hashed_and_the_token_is_nobodys() {
    let generated: Vec<String> =
        list(&kustomization()["configMapGenerator"]).iter().map(|entry| text(&entry["name"])).collect();
    assert_eq!(generated, ["run-config", "nccl-env"]);
    assert_eq!(list(&coordinator()["spec"]["template"]["spec"]["volumes"])[0]["configMap"]["name"], "run-config");
    assert_eq!(container(&job())["envFrom"], json!([{"configMapRef": {"name": "nccl-env"}}]));
    for file in list(&kustomization()["configMapGenerator"])
        .iter()
        .flat_map(|entry| [list(&entry["files"]), list(&entry["envs"])].concat())
    {
        assert!(base().join(text(&file)).is_file(), "{file}");
    }

    let secret = one("Secret", "join-token");
    assert!(secret["data"].is_null() && secret["stringData"].is_null(), "a token in the repository");
    for owner in [coordinator(), job()] {
        let volumes = list(&owner["spec"]["template"]["spec"]["volumes"]);
        let volume = volumes.iter().find(|volume| volume["name"] == "join-token").unwrap();
        assert_eq!(volume["secret"]["secretName"], "join-token");
        assert_eq!(volume["secret"]["optional"], false);
    }
}

#[test]
fn the_images_hold_what_the_manifests_name() {
    for (image, owner) in [("coordinator", coordinator()), ("worker", job())] {
        assert_eq!(container(&owner)["image"], format!("polya/{image}"));
        let file = fs::read_to_string(root().join(format!("k8s/Containerfile.{image}"))).unwrap();
        assert!(file.contains(&format!("/polya/target/release/{image} /usr/local/bin/{image}")));
        let user = owner["spec"]["template"]["spec"]["securityContext"]["runAsUser"].as_u64().unwrap();
        assert!(file.contains(&format!("USER {user}:")));
        let named = list(&kustomization()["images"]);
        assert!(named.iter().any(|entry| entry["name"] == format!("polya/{image}") && entry["newTag"].is_string()));
    }
}

/// The coordinator's own start script, with `/runs`, the configuration and the token where this test has them.
fn run_coordinator_script(runs: &Path, folder: &tempfile::TempDir, more: &[&str], path: Option<&Path>) -> Output {
    let container = container(&coordinator());
    let token = folder.path().join("token");
    fs::write(&token, "a-token-of-nobody\n").unwrap();
    let moved = |word: &Value| {
        text(word)
            .replace("/runs/", &format!("{}/", runs.display()))
            .replace("/etc/polya/run.toml", &base().join("run.toml").display().to_string())
            .replace("/var/run/secrets/polya/token", &token.display().to_string())
    };
    let words: Vec<String> = list(&container["command"]).iter().chain(&list(&container["args"])).map(moved).collect();
    let path = path.map_or_else(binaries, Path::to_path_buf);
    Command::new(&words[0])
        .args(&words[1..])
        .args(more)
        .current_dir(folder.path())
        .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", path.display()))
        .output()
        .unwrap()
}

/// `--help` behind the arguments: whatever is unknown or malformed before it is an error, exit 2.
fn assert_understood(program: &str, arguments: &[String]) {
    let output = Command::new(binaries().join(program)).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    let mut wrong = arguments.to_vec();
    wrong.insert(0, "--no-such-flag".into());
    let output = Command::new(binaries().join(program)).args(&wrong).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{program} takes anything before --help: this check proves nothing");
}

fn empty_runs() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join("runs");
    fs::create_dir(&runs).unwrap();
    (folder, runs)
}

/// The folder of the release binaries: this test runs from `deps/` in it.
fn binaries() -> PathBuf {
    let folder = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().to_path_buf();
    for program in ["coordinator", "worker"] {
        assert!(folder.join(program).is_file(), "{program} is not in {}: run `make build`", folder.display());
    }
    folder
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn base() -> PathBuf {
    root().join("k8s/base")
}

fn coordinator() -> Value {
    one("StatefulSet", "coordinator")
}

fn job() -> Value {
    one("Job", "workers")
}

fn container(owner: &Value) -> Value {
    owner["spec"]["template"]["spec"]["containers"][0].clone()
}

fn one(kind: &str, name: &str) -> Value {
    let found: Vec<Value> = documents()
        .into_iter()
        .filter(|document| document["kind"] == kind && document["metadata"]["name"] == name)
        .collect();
    assert_eq!(found.len(), 1, "{kind} {name}");
    found[0].clone()
}

fn kustomization() -> Value {
    read(&base().join("kustomization.yaml")).remove(0)
}

fn documents() -> Vec<Value> {
    list(&kustomization()["resources"]).iter().flat_map(|name| read(&base().join(text(name)))).collect()
}

fn read(path: &Path) -> Vec<Value> {
    let content = fs::read_to_string(path).unwrap();
    serde_yaml_ng::Deserializer::from_str(&content)
        .map(|document| Value::deserialize(document).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
        .collect()
}

/// Every pod selector of a network policy that names labels.
fn peers(spec: &Value, selectors: &mut Vec<Value>) {
    match spec {
        Value::Object(fields) => {
            for (key, value) in fields {
                if key == "podSelector" && !value["matchLabels"].is_null() {
                    selectors.push(value["matchLabels"].clone());
                }
                peers(value, selectors);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| peers(value, selectors)),
        _ => {}
    }
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
