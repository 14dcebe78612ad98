export { type ConformanceCase, makeContext, recordOf, textOf, until, within } from "./cases.ts";
export { type ChannelFixture, type ChannelSetup, conformChannel } from "./channel.ts";
export { conformPullSource, type PullFixture, type PullSetup } from "./pull-source.ts";
export { conformPushSource, type PushFixture, type PushSetup, TestIntake } from "./push-source.ts";
export { conformSink, RecordingFeedback, type SinkFixture, type SinkSetup } from "./sink.ts";
