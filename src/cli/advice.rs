//! The next command for whatever is not as it should be: `status` and `why` name it beside the reason.

/// What mends something that is not ready, by the reason of its condition (docs/formats.md). Nothing where the message
/// says it, or nothing can be said in general.
#[must_use]
pub fn advice(name: &str, reason: &str) -> Option<String> {
    Some(match reason {
        "InvalidManifest" | "MissingEntry" | "DuplicateId" | "RefusedPath" | "LimitExceeded" => {
            format!("mend it and save; `kindling wait {name}` tells when it is live")
        }
        "ChainCycle" => "give one of them another `trigger` and save; the others follow by themselves".into(),
        "MissingInterpreter" => {
            "install it; a runtime's program can be named as `runtimes` in kindling.yaml; `kindling check` looks for it".into()
        }
        "NotAllowed" => {
            "save that line in kindling.yaml, if the source may have it; no command is needed".into()
        }
        "PathTaken" => {
            "give one of the two another path and save it; `kindling get units -o wide` shows who has which".into()
        }
        "MissingSecret" => {
            "set it, with 16 bytes or more, where the service is started, and start it again; `openssl rand -hex 32` makes one; save the manifest if the name is wrong".into()
        }
        "Unreadable" | "RootUnreadable" | "DirectoryUnreadable" => {
            format!("make it readable for the user of the service, then `kindling reconcile {name}`")
        }
        "Failed" => {
            format!("`kindling logs {name}` shows its last run; `kindling reconcile {name}` tries again")
        }
        "Held" | "Suspended" => format!("`kindling resume {name}`"),
        "Restarting" | "CrashLoop" | "Ended" => {
            format!(
                "`kindling logs {name}` shows why; a save that mends it starts it at once, as `kindling restart {name}` does"
            )
        }
        "RootMissing" | "RootNotADirectory" | "RootDeviceChanged" => {
            format!(
                "make the directory, or correct `path` of {name} in kindling.yaml; `kindling check` looks for it"
            )
        }
        "AuthenticationFailed" | "CredentialMissing" | "BadCredential" => {
            format!(
                "put the right one where `auth` of {name} in kindling.yaml points, then `kindling reconcile {name}`"
            )
        }
        "RemoteUnreachable" | "FetchFailed" | "FetchTimedOut" | "RepositoryUnavailable" => {
            format!("it is tried again by itself; `kindling reconcile {name}` tries it now")
        }
        "RemoteEmpty" | "BranchMissing" | "TagMissing" | "VersionMissing" | "CommitMissing"
        | "PathMissing" | "BadUrl" | "BadBranch" | "BadTag" | "BadRange" | "BadCommit" => {
            format!("push it, or correct {name} in kindling.yaml; then `kindling reconcile {name}`")
        }
        "StoreUnwritable" => {
            "`kindling check` says what keeps the data directory from being written to".into()
        }
        "InvalidConfiguration" => "mend the file and save it; `kindling check` reads it too".into(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_documented_and_advice_names_a_command_or_a_save() {
        let formats = include_str!("../../docs/formats.md");
        let text = include_str!("advice.rs");
        let table = &text[..text.find("_ => return None").unwrap()];
        let reasons: Vec<&str> = table
            .split('"')
            .filter(|word| word.chars().all(char::is_alphabetic) && word.starts_with(char::is_uppercase))
            .collect();
        assert!(reasons.len() > 30, "{reasons:?}");
        for reason in reasons {
            assert!(formats.contains(&format!("`{reason}`")), "{reason} is not in docs/formats.md");
            let advice = advice("team", reason).unwrap();
            assert!(advice.contains("`kindling ") || advice.contains("save"), "{advice}");
        }
    }
}
