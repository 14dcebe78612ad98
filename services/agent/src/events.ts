/** What the agent service logs and counts, declared once. */
import { declareEvent } from "@millrace/telemetry";

export const agentStarted = declareEvent({
  name: "agent_started",
  level: "info",
  message: "Agent started.",
  fields: {
    agent: "name of the agent",
    agentId: "id of its data directory",
    address: "administration address",
    dataDir: "data directory",
    file: "file of the pipeline",
    recoveryMs: "time of recovery, milliseconds",
    wasClean: "whether the last stop was clean",
  },
});

export const agentStopped = declareEvent({
  name: "agent_stopped",
  level: "info",
  message: "Agent stopped.",
  fields: { agent: "name of the agent", undelivered: "records its channels keep" },
});

export const configWarning = declareEvent({
  name: "agent_config_warning",
  level: "warn",
  message: "The pipeline's configuration has a weak spot.",
  fields: { warning: "file, line and what" },
});

export const agentRegistered = declareEvent({
  name: "agent_registered",
  level: "info",
  message: "Registered with the controller.",
  fields: { clusterId: "cluster", nodeEpoch: "epoch of the registration" },
  counter: "agent_registrations_total",
});

export const registrationFailed = declareEvent({
  name: "agent_registration_failed",
  level: "warn",
  message: "Registration or heartbeat failed; sources and channels go on.",
  fields: { reason: "error reason", error: "what happened" },
  counter: "agent_registration_failures_total",
  labels: ["reason"],
  rateLimitMs: 10_000,
});

export const registrationRefused = declareEvent({
  name: "agent_registration_refused",
  level: "error",
  message: "The controller refuses this agent for good.",
  fields: { reason: "error reason", error: "what happened and what to do" },
});

export const directoryEvent = declareEvent({
  name: "agent_directory_event",
  level: "debug",
  message: "The agent's data directory reports.",
  fields: { kind: "what", details: "details as JSON" },
  counter: "agent_directory_events_total",
  labels: ["kind"],
});

export const directoryAlarm = declareEvent({
  name: "agent_directory_alarm",
  level: "error",
  message: "The agent's data directory reports damage.",
  fields: { kind: "what", details: "details as JSON" },
  counter: "agent_directory_alarms_total",
  labels: ["kind"],
});

export const directoryOffline = declareEvent({
  name: "agent_directory_offline",
  level: "error",
  message:
    "The agent's data directory is offline after a disk error; restart the agent when the disk is well.",
  fields: { error: "what happened" },
});
