export {
  AppError,
  type ErrorMetadata,
  errorTable,
  grpcCode,
  InvariantError,
  invariant,
  isReason,
  type Reason,
  type RetryClass,
  unreachable,
} from "./errors.ts";
export {
  checkName,
  checkTopicName,
  internalTopicPrefix,
  nearestName,
  printable,
  topicNameLengthMax,
} from "./names.ts";
export { Prng } from "./prng.ts";
export { type Range, RangeSet } from "./range-set.ts";
export {
  advanceWireSequence,
  fromWireSequence,
  toWireSequence,
  wireDistance,
  wireSequenceModulus,
} from "./sequence.ts";
