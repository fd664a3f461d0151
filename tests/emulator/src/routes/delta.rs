//! `GET …/delta`: a page of what changed.

use std::{sync::Arc, time::Duration};

use axum::response::Response;
use http::HeaderMap;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{
    graph::{Context, collection, ok, with_scene},
    query::fields,
};
use crate::{
    delta::{Round, Token, resync},
    profile::DeltaReach,
    refusal::Refusal,
    render::Form,
    world::State,
};

/// The code of a token that is simply too old.
const TOO_OLD: &str = "resyncChangesApplyDifferences";

pub(super) fn page(context: &Context, headers: &HeaderMap) -> Result<Response, Refusal> {
    let query = &context.call.query;
    let token = query.get("token").filter(|token| !token.is_empty());
    let with_ancestors = headers
        .get("deltaexcludeparent")
        .is_none_or(|value| value != "true");
    let mut state = context.world.state();
    let folder = context.existing(&state)?;
    admit_folder(context, &state, &folder)?;
    let (number, offset) = match token {
        Some("latest") => {
            let since = current(context, &state);
            let round = round(
                context,
                &state,
                folder,
                Some(since),
                query_select(context),
                true,
            );
            (state.rounds.open(round), 0)
        }
        None => {
            let round = round(context, &state, folder, None, query_select(context), true);
            (state.rounds.open(round), 0)
        }
        Some(text) => resume(context, &mut state, text, folder, with_ancestors)?,
    };
    render(context, &state, number, offset)
}

fn query_select(context: &Context) -> Option<String> {
    context.call.query.get("select").map(str::to_owned)
}

fn admit_folder(context: &Context, state: &State, folder: &str) -> Result<(), Refusal> {
    let drive = &state.drives[context.drive];
    match drive.switches.delta {
        DeltaReach::Nowhere => Err(Refusal::invalid(
            "Change tracking is not supported against 'microsoft.graph.driveItem'.",
        )),
        DeltaReach::RootOnly if folder != drive.root => Err(Refusal::not_supported(
            "view.delta can only be called on the root.",
        )),
        DeltaReach::RootOnly | DeltaReach::Anywhere => {
            if drive.find(folder)?.folder().is_none() {
                return Err(Refusal::invalid("Delta needs a folder."));
            }
            Ok(())
        }
    }
}

/// Goes on where a token says.
fn resume(
    context: &Context,
    state: &mut State,
    text: &str,
    folder: String,
    with_ancestors: bool,
) -> Result<(u64, usize), Refusal> {
    let drive = &state.drives[context.drive];
    let too_old = || resync(TOO_OLD, false, Some(delta_url(context, state, None)));
    if let Ok(time) = text.parse::<Timestamp>() {
        if !drive.switches.time_tokens {
            return Err(Refusal::invalid(
                "Times are not supported as delta tokens here.",
            ));
        }
        let since = drive.before(time);
        let round = round(
            context,
            state,
            folder,
            Some(since),
            query_select(context),
            with_ancestors,
        );
        return Ok((state.rounds.open(round), 0));
    }
    match Token::decode(text)? {
        Token::Rest { round, offset } => {
            let epoch = drive.epoch;
            match state.rounds.get(round) {
                Some(found) if found.epoch == epoch && found.drive == context.drive => {
                    Ok((round, offset))
                }
                Some(_) | None => Err(too_old()),
            }
        }
        Token::Since { epoch, .. } if epoch != drive.epoch => Err(too_old()),
        Token::Since {
            seq,
            folder,
            select,
            ..
        } => {
            let round = round(context, state, folder, Some(seq), select, with_ancestors);
            Ok((state.rounds.open(round), 0))
        }
    }
}

/// The last change that delta shows by now.
fn current(context: &Context, state: &State) -> u64 {
    let drive = &state.drives[context.drive];
    let lag = Duration::from_millis(state.settings.delta_lag_ms);
    if lag.is_zero() {
        return drive.seq;
    }
    let until = SignedDuration::try_from(lag)
        .ok()
        .and_then(|lag| context.world.now().checked_sub(lag).ok())
        .unwrap_or(Timestamp::MIN);
    drive.settled(until)
}

fn round(
    context: &Context,
    state: &State,
    folder: String,
    since: Option<u64>,
    select: Option<String>,
    with_ancestors: bool,
) -> Round {
    let drive = &state.drives[context.drive];
    let upto = current(context, state).max(since.unwrap_or(0));
    let rows = if since == Some(upto) {
        Vec::new()
    } else {
        drive.rows(since, upto, &folder, with_ancestors)
    };
    Round {
        drive: context.drive,
        folder,
        upto,
        epoch: drive.epoch,
        select,
        rows: Arc::new(rows),
    }
}

fn render(
    context: &Context,
    state: &State,
    number: u64,
    offset: usize,
) -> Result<Response, Refusal> {
    let round = state.rounds.get(number).ok_or_else(Refusal::not_found)?;
    let settings = &state.settings;
    let drive = &state.drives[round.drive];
    let select = round.select.as_deref().map(fields);
    let end = offset
        .saturating_add(settings.delta_page_size.max(1))
        .min(round.rows.len());
    let mut value: Vec<Value> = Vec::new();
    for id in round.rows.get(offset..end).unwrap_or_default() {
        let Some(item) = drive.remembered(id) else {
            continue;
        };
        let gone = !item.is_live();
        let left = round.folder != drive.root && !drive.is_within(id, &round.folder);
        if gone && settings.delta_loses_tombstones {
            continue;
        }
        let row = with_scene(&context.world, state, round.drive, |scene| {
            if left {
                scene.departed(item)
            } else {
                scene.item(item, Form::Delta, select.as_deref())
            }
        });
        if settings.delta_duplicates {
            value.push(row.clone());
        }
        value.push(row);
    }
    let mut reply = collection(&context.world, &value);
    if end < round.rows.len() {
        let offset = if settings.delta_loops { offset } else { end };
        let token = Token::Rest {
            round: number,
            offset,
        };
        reply["@odata.nextLink"] = delta_url(context, state, Some(&token)).into();
    } else {
        let token = Token::Since {
            epoch: round.epoch,
            seq: round.upto,
            folder: round.folder.clone(),
            select: round.select.clone(),
        };
        reply["@odata.deltaLink"] = delta_url(context, state, Some(&token)).into();
    }
    Ok(ok(&reply))
}

/// An absolute link, of the folder that was asked for.
fn delta_url(context: &Context, state: &State, token: Option<&Token>) -> String {
    let drive = &state.drives[context.drive];
    let at = match context.existing(state) {
        Ok(id) if id != drive.root => format!("items/{id}"),
        Ok(_) | Err(_) => "root".to_owned(),
    };
    let base = format!(
        "{}/v1.0/drives/{}/{at}/delta",
        context.world.links().graph,
        drive.id
    );
    match token {
        Some(token) => format!("{base}?token={}", token.encode()),
        None => base,
    }
}
