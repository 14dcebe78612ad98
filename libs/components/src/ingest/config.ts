/** Configuration of the ingest source. */
import { size, z } from "@millrace/config";

/** Bytes a sender may have unanswered by default. */
const creditBytesDefault = 64 * 1024 * 1024;

export const ingestConfig = z.strictObject({
  bind: z.string().default("127.0.0.1").meta({ description: "Address to listen on." }),
  port: z.coerce
    .number()
    .int()
    .min(0)
    .max(65_535)
    .default(9780)
    .meta({ description: "Port to listen on; 0 = any free one." }),
  creditBytes: size()
    .default(creditBytesDefault)
    .meta({ description: "Bytes a sender may have unanswered." }),
  insecure: z
    .stringbool()
    .or(z.boolean())
    .default(false)
    .meta({ description: "Allow binding beyond loopback without TLS." }),
  certificateFile: z.string().optional().meta({ description: "PEM file of the certificate: TLS." }),
  keyFile: z.string().optional().meta({ description: "PEM file of its key." }),
  clientAuthorityFile: z
    .string()
    .optional()
    .meta({ description: "PEM file: senders must show a certificate of this authority." }),
});

export type IngestConfig = z.output<typeof ingestConfig>;
