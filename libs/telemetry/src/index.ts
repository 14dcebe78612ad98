export {
  type CounterDeclaration,
  declarations,
  declareCounter,
  declareEvent,
  declareGauge,
  declareHistogram,
  type EventDeclaration,
  type EventFields,
  type FieldValue,
  type GaugeDeclaration,
  type HistogramDeclaration,
  type LabelValues,
  type Level,
  type MetricDeclaration,
  secondsBuckets,
} from "./declarations.ts";
export { describeDeclarations } from "./describe.ts";
export { type HttpEndpoint, type HttpOptions, startHttp } from "./http.ts";
export type { Counter, Gauge, Histogram, Metrics, Sample } from "./metrics.ts";
export { type PartState, Readiness, type ReadinessSnapshot } from "./readiness.ts";
export {
  createTelemetry,
  discardedTotal,
  type LogFields,
  type Logger,
  type Telemetry,
  type TelemetryOptions,
} from "./telemetry.ts";
