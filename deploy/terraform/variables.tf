variable "name" {
  description = "Name of the role, and start of the policies' names."
  type        = string
  default     = "job-access"
}

variable "path" {
  description = "JOB_ACCESS_PATH: IAM path below which all users live."
  type        = string
  default     = "/job-access/"
}

variable "buckets" {
  description = "JOB_ACCESS_ALLOWED_BUCKETS: buckets that jobs can be given, `*` as wildcard. Empty: any."
  type        = list(string)
  default     = []
}

variable "session_roles" {
  description = "Roles of JOB_ACCESS_PROFILES, if any."
  type        = list(object({ arn = string, revocable = bool }))
  default     = []
}

variable "oidc_provider_arn" {
  description = "IAM OIDC provider of the EKS cluster that the service runs in."
  type        = string
  default     = null
}

variable "namespace" {
  description = "Of the service account, with oidc_provider_arn."
  type        = string
  default     = "job-access"
}

variable "service_account" {
  description = "With oidc_provider_arn."
  type        = string
  default     = "job-access"
}

variable "trust" {
  description = "Trust policy of the role, JSON, where the service does not run in EKS."
  type        = string
  default     = null
}

variable "tags" {
  type    = map(string)
  default = {}
}
