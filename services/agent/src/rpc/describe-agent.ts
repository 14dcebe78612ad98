/** The pipeline's status as the administration call answers it. */
import type { ComponentState as FlowState, PipelineStatus } from "@millrace/flow";
import { ComponentState, type DescribeAgentResponse } from "@millrace/proto/agent";

const states: Record<FlowState, ComponentState> = {
  starting: ComponentState.STARTING,
  running: ComponentState.RUNNING,
  blocked: ComponentState.BLOCKED,
  ended: ComponentState.ENDED,
  failed: ComponentState.FAILED,
};

/** The answer for a status. */
export function describeAgent(status: PipelineStatus): DescribeAgentResponse {
  return {
    name: status.agent,
    agentId: status.agentId,
    sources: status.sources.map((source) => ({
      name: source.name,
      type: source.type,
      state: states[source.state],
      error: source.error ?? "",
      recordCount: source.recordCount,
      streamCount: source.streamCount,
      isIdle: source.isIdle,
      skipped: source.skipped.map(({ name, reason }) => ({ name, reason })),
    })),
    channels: status.channels.map((channel) => ({
      name: channel.name,
      type: channel.type,
      channelId: channel.channelId,
      putCount: channel.putCount,
      depthCount: channel.depthCount,
      depthBytes: channel.depthBytes,
      capacityCount: channel.capacityCount,
      capacityBytes: channel.capacityBytes,
    })),
    sinks: status.sinks.map((sink) => ({
      name: sink.name,
      type: sink.type,
      state: states[sink.state],
      error: sink.error ?? "",
      deliveredCount: sink.deliveredCount,
      refusedCount: sink.refusedCount,
    })),
  };
}
