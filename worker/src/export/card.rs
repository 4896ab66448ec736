//! The model card: what was trained on what, with the run's own figures.

use polya_datasets::scores::Summary;

use super::Format;
use super::run::Run;

/// README.md of an export. `how` says how it is loaded.
pub(super) fn card(run: &Run, format: Format, how: &str) -> String {
    let library = match format {
        Format::Peft => "peft",
        Format::Merged | Format::Gguf => "transformers",
    };
    let value = |key: &str| {
        let found = key.split('.').try_fold(None::<&toml::Value>, |table, part| {
            Some(Some(table.map_or_else(|| run.config.get(part), |table| table.get(part))?))
        });
        found.flatten().map(|value| value.to_string()).unwrap_or_default()
    };
    let facts = [
        "adapter.rank",
        "adapter.alpha",
        "adapter.dropout",
        "adapter.verification",
        "quantisation",
        "data.prompt",
        "loss.mode",
        "loss.transition",
        "loss.label_smoothing",
        "train.learning_rate",
        "train.max_length",
        "run.seed",
    ];
    let facts: String = facts.iter().map(|key| format!("| `{key}` | {} |\n", value(key))).collect();
    format!(
        "---\nlibrary_name: {library}\nbase_model: {base}\ntags: [polya, lora, math, self-verification]\n---\n\
         # {base}, taught to solve in four stages and to verify\n\n\
         Made by Polya from step {step} of a run; digest of the state `{digest}`. The model writes UNDERSTAND, PLAN, EXECUTE \
         and VERIFY {behind}, then `Final Answer:`.\n\n\
         ## Loading\n\n{how}\n\
         ## Training\n\n| key | value |\n| --- | --- |\n{facts}\n\
         ## Scores\n\n{scores}",
        base = run.base(),
        step = run.step,
        digest = run.digest,
        behind = match value("data.prompt").trim_matches('"') {
            "chat" => "as the base's chat template begins an answer to the question",
            _ => "behind `Question: …` and `Solution:`",
        },
        scores = scores(run),
    )
}

fn scores(run: &Run) -> String {
    let of = |which: &str| -> Option<Summary> { serde_json::from_value(run.scores.as_ref()?.get(which)?.clone()).ok() };
    let (Some(before), Some(after)) = (of("base"), of("trained")) else {
        return "This step was not scored before and after training.\n".to_owned();
    };
    let rows = before.figures().into_iter().zip(after.figures());
    let rows: String = rows.map(|((name, before), (_, after))| format!("| {name} | {before} | {after} |\n")).collect();
    format!(
        "On held-out problems of the run, with 95 % intervals. SVR is measured on planted errors, and says little about \
         errors of the model's own; those are the SVR-live rows.\n\n| | base | trained |\n| --- | --- | --- |\n{rows}"
    )
}
