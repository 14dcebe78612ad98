/**
 * The promise of the first screen as an equation (rule S1), pure.
 *
 *   in = published + in flight + set aside        d = in - published - in flight - set aside
 *
 * Each leg has books on both of its sides, kept by different parties, and is judged by itself, so that a loss on one
 * and a doubling on another cannot hide each other:
 *
 *   sources -> channel    what the sources' positions account for   | the channel's next sequence
 *   channel -> topic      what its sink was done with               | the named producer's sequences in the partitions
 *   topic -> files        the offsets below the connector's resume  | the counts in the commit log (C2)
 *
 * All of it is read in one turn of the event loop: one consistent cut.
 */

/** A partition of the topic, and its task of the connector. Counts of records, offsets from 0. */
export interface PartitionCut {
  /** First offset kept. */
  readonly start: number;
  /** Next offset. */
  readonly end: number;
  /** Records in it that the channel's sink sent: its producer's sequence. */
  readonly sent: number;
  /** Offset where the connector began with this topic. */
  readonly begun: number;
  /** Everything below is in a file or set aside. */
  readonly resume: number;
  /** Records in published files, by the commit log. */
  readonly published: number;
  /** Records the connector's sink set aside, by the commit log. */
  readonly setAside: number;
}

/** What every party's books say at one moment. */
export interface Cut {
  /** Records that the sources' saved positions account for. */
  readonly read: number;
  /** Records interceptors dropped or runners set aside before the channel. */
  readonly setAsideBefore: number;
  /** Next sequence of the channel. */
  readonly channelEnd: number;
  /** First sequence the channel's sink is not done with. */
  readonly channelDone: number;
  /** Records handed to the sink that it is not done with. */
  readonly channelTaken: number;
  /** Records the channel's sink set aside, of those below `channelDone`. */
  readonly setAsideBySink: number;
  /** Records that went into a topic of the same name that was deleted since (L3): no part of this account. */
  readonly gone: number;
  readonly partitions: readonly PartitionCut[];
}

/** What the last line shows. Records. */
export interface Account {
  readonly in: number;
  readonly published: number;
  readonly inFlight: number;
  /** Dead letters: neither lost nor published. */
  readonly setAside: number;
  readonly lost: number;
  readonly doubled: number;
}

/** The account of a cut. */
export function accountOf(cut: Cut): Account {
  const sum = (of: (partition: PartitionCut) => number): number =>
    cut.partitions.reduce((total, partition) => total + of(partition), 0);
  const sent = sum((partition) => partition.sent);
  const published = sum((partition) => partition.published);

  const settled = settledBySink(cut, sent);
  const legs = [
    cut.read - cut.setAsideBefore - cut.channelEnd,
    settled - sent,
    ...cut.partitions.map(connectorLeg),
  ];
  const lost = legs.reduce((total, leg) => total + Math.max(0, leg), 0);
  const doubled = legs.reduce((total, leg) => total + Math.max(0, -leg), 0);

  const inChannel = cut.channelEnd - cut.setAsideBySink - cut.gone - settled;
  const inTopic = sum((partition) => partition.end - reached(partition));
  return {
    // What others produced into the topic came in there.
    in: cut.read - cut.gone + sum((partition) => partition.end - partition.begun) - sent,
    published,
    inFlight: inChannel + inTopic,
    setAside: cut.setAsideBefore + cut.setAsideBySink + sum((partition) => partition.setAside),
    lost,
    doubled,
  };
}

/** Records below a later topic's account: those its first sequences do not follow on (see {@link Cut.gone}). */
export function goneBefore(cut: Cut): number {
  const sent = cut.partitions.reduce((total, partition) => total + partition.sent, 0);
  return Math.max(0, cut.channelDone - cut.setAsideBySink - sent);
}

/**
 * Records of the channel that count as sent. The partitions are ahead of what the sink is done with by what it was
 * handed and has not confirmed yet; being ahead of that is a doubling, being behind is a loss.
 */
function settledBySink({ channelDone, channelTaken, setAsideBySink, gone }: Cut, sent: number): number {
  const done = channelDone - setAsideBySink - gone;
  return Math.max(done, Math.min(sent, done + channelTaken));
}

/** Offset below which nothing is to come any more: published, set aside, or taken by retention. */
function reached({ start, begun, resume }: PartitionCut): number {
  return Math.max(resume, begun, start);
}

/** Offsets below the connector's resume, against its books; what retention took before it came is lost. */
function connectorLeg(partition: PartitionCut): number {
  return reached(partition) - partition.begun - partition.published - partition.setAside;
}
