export { type AgentOptions, type AgentService, startAgent } from "./agent.ts";
export { type CheckedPipeline, type CheckOptions, checkPipeline } from "./check.ts";
export { type AgentConfig, agentConfigSchema, agentOptions } from "./config.ts";
export { renewAgentIdentity } from "./identity.ts";
